"""Images from anywhere as one uint8 array: built-ins, class folders, zip and tar, npz and npy, parquet.

    limits      what one image and one archive may cost
    pixels      the one rule from a file's bytes to an array
    members     one file of an archive; zips, tars, folders, tables, arrays read them in place
    layout      from folders and columns to splits and classes
    ingestion   go through a file once, decode everything, write an Index (index, survey)
    materialise from file and index to memory-mapped arrays
    builtin     what is known of the built-in sets; builtin_files reads them
    opening     a path in, a dataset out

Importing this package imports nothing else: each name is fetched from its module when it is first used, so that a
process that decodes images waits for no spec and no index. None of the modules imports torch, scikit-learn or pyarrow.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_HOMES = {
    "builtin": ("BUILTINS", "BuiltinInfo", "builtin_available", "builtin_facts"),
    "builtin_files": ("load_builtin",),
    "index": ("Index",),
    "ingestion": ("file_digest", "ingest"),
    "limits": ("ImageLimits", "OverLimit"),
    "materialise": ("load_archive",),
    "opening": ("open_path",),
    "sets": ("Dataset", "ImageSet"),
}


def __getattr__(name: str) -> Any:
    """A name of ``__all__`` from its module, kept here from then on."""
    for home, names in _HOMES.items():
        if name in names:
            found = getattr(import_module(f"nidim.data.{home}"), name)
            globals()[name] = found
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
