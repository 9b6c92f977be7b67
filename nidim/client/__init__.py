"""The client of a server: train there, embed there, draw from the law of the embeddings.

    from nidim.client import Client

    client = Client("http://127.0.0.1:8000")
    job = client.train({"dataset": "digits"}, encoder="digits-2d").wait(progress=True)
    encoder = client.encoder("digits-2d")
    z = encoder.embed(["one.png", "two.png"])
    draws = encoder.prior.sample(1000, seed=7)

``AsyncClient`` has the same methods, to be awaited. Stands on httpx, numpy and ``nidim.spec``: no torch.
"""

from nidim.client.client import AsyncClient, Client
from nidim.client.embedding import Batching
from nidim.client.encoders import AsyncEncoder, Encoder
from nidim.client.errors import (
    BadImage,
    Busy,
    Conflict,
    DownloadDamaged,
    Forbidden,
    IngestionFailed,
    Invalid,
    JobCancelled,
    JobEnded,
    JobFailed,
    NidimServerError,
    NotFound,
    Place,
    PreconditionFailed,
    ServerFault,
    ServerUnreachable,
    TooLarge,
    Unauthorized,
    Unavailable,
    WaitTimeout,
)
from nidim.client.generators import AsyncGenerator, Generator
from nidim.client.jobs import AsyncJob, Job
from nidim.client.prior import AsyncPrior, Prior, Scores
from nidim.client.retry import RetryPolicy
from nidim.client.uploads import AsyncDatasets, Datasets
from nidim.client.values import (
    AliasInfo,
    DatasetInfo,
    DriftInfo,
    EncoderInfo,
    Event,
    FileInfo,
    GeneratorInfo,
    JobInfo,
)

__all__ = [
    "AliasInfo",
    "AsyncClient",
    "AsyncDatasets",
    "AsyncEncoder",
    "AsyncGenerator",
    "AsyncJob",
    "AsyncPrior",
    "BadImage",
    "Batching",
    "Busy",
    "Client",
    "Conflict",
    "DatasetInfo",
    "Datasets",
    "DownloadDamaged",
    "DriftInfo",
    "Encoder",
    "EncoderInfo",
    "Event",
    "FileInfo",
    "Forbidden",
    "Generator",
    "GeneratorInfo",
    "IngestionFailed",
    "Invalid",
    "Job",
    "JobCancelled",
    "JobEnded",
    "JobFailed",
    "JobInfo",
    "NidimServerError",
    "NotFound",
    "Place",
    "PreconditionFailed",
    "Prior",
    "RetryPolicy",
    "Scores",
    "ServerFault",
    "ServerUnreachable",
    "TooLarge",
    "Unauthorized",
    "Unavailable",
    "WaitTimeout",
]
