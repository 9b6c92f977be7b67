"""Images from anywhere as one uint8 array: built-ins, class folders, zip and tar, npz and npy, parquet.

    limits      what one image and one archive may cost
    pixels      the one rule from a file's bytes to an array
    members     one file of an archive; zips, tars, folders, tables, arrays read them in place
    layout      from folders and columns to splits and classes
    ingestion   go through a file once, decode everything, write an Index (index, survey)
    materialise from file and index to memory-mapped arrays
    builtin     what is known of the built-in sets; builtin_files reads them
    opening     a path in, a dataset out

Importing this package imports no torch, no scikit-learn and no pyarrow.
"""

from nidim.data.builtin import BUILTINS, BuiltinInfo, builtin_available, builtin_facts
from nidim.data.builtin_files import load_builtin
from nidim.data.index import Index
from nidim.data.ingestion import file_digest, ingest
from nidim.data.limits import ImageLimits, OverLimit
from nidim.data.materialise import load_archive
from nidim.data.opening import open_path
from nidim.data.sets import Dataset, ImageSet

__all__ = [
    "BUILTINS",
    "BuiltinInfo",
    "Dataset",
    "ImageLimits",
    "ImageSet",
    "Index",
    "OverLimit",
    "builtin_available",
    "builtin_facts",
    "file_digest",
    "ingest",
    "load_archive",
    "load_builtin",
    "open_path",
]
