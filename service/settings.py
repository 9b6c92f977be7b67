"""Settings: every switch of the server and the worker, with its meaning.

Built in entry points only (``service.entry.read``) and passed in. The value of a field ``x`` comes from the argument,
else from the environment variable ``NIDIM_X``, else from the default here. ``nidim settings`` prints all of them.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.kinds import BrokerUrl, CollectorUrl, DatabaseUrl, FirstKey, HostNames, Origins, Pepper

MIB = 1 << 20
GIB = 1 << 30
LONGEST_DAYS = 36_500
"""Of what is kept; the databases count microseconds in 64 bits."""
PREFIX = "NIDIM_"


class Places(BaseSettings):
    """Where the truth, the blobs, the queue and the built-in datasets are."""

    data_dir: Path = Field(
        default=Path.home() / ".nidim", description="directory of the database, the blobs and the caches"
    )
    database_url: DatabaseUrl = Field(default="", description="SQLAlchemy URL; empty: sqlite in data_dir")
    blob_url: str = Field(default="", description="fsspec URL of the blobs; empty: a directory in data_dir")
    blob_timeout_s: float = Field(
        default=15.0,
        gt=0,
        description="seconds of silence of an S3 until a request to it has failed; it is tried twice",
    )
    broker_url: BrokerUrl = Field(
        default="",
        description="Redis URL of the queue, or those of Sentinels and ?master=NAME; empty: the embedded one of "
        "`nidim up`",
    )
    datasets_dir: Path | None = Field(
        default=None,
        description="root in which torchvision's datasets are looked up; none: datasets in data_dir",
    )
    allow_downloads: bool = Field(
        default=False, description="whether built-in datasets may be downloaded, into that root"
    )

    @property
    def datasets_root(self) -> Path:
        """Where the files of built-in datasets are, or are downloaded to."""
        return self.datasets_dir or self.data_dir / "datasets"


class Network(BaseSettings):
    """Who may talk to the server."""

    host: str = Field(default="127.0.0.1", description="address to listen on; any but loopback needs keys")
    port: int = Field(default=8000, ge=0, le=65535, description="port to listen on; 0: a free one")
    allowed_hosts: HostNames = Field(
        default=(), description="further Host names that are accepted while no keys exist (JSON list)"
    )
    allowed_origins: Origins = Field(
        default=(),
        description="origins of web pages elsewhere that may call the API (JSON list); none by default",
    )
    bootstrap_key: FirstKey = Field(
        default=None,
        description="creates the first admin key (nk_ and at least 32 characters), for containers",
    )
    key_pepper: Pepper = Field(
        default=None,
        description="secret (16 bytes or more) with which API keys are hashed, for replicas that share no data_dir; "
        "none: a file in data_dir",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="of the server's log"
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="text for a person at a terminal, json (one object a line) for machines"
    )
    otlp_endpoint: CollectorUrl = Field(
        default="",
        description="URL of an OpenTelemetry collector (OTLP over HTTP) that traces go to; empty: none, "
        "else needs the extra tracing",
    )


class Control(BaseSettings):
    """Leases, retries and retention of jobs."""

    lease_s: float = Field(default=30.0, gt=0, description="seconds until a silent worker loses its job")
    heartbeat_s: float = Field(
        default=5.0,
        gt=0,
        validate_default=True,
        description="seconds between a worker's extensions of its lease; at most half of NIDIM_LEASE_S",
    )
    reaper_every_s: float = Field(default=5.0, gt=0, description="seconds between looks for lost jobs")
    republish_after_s: float = Field(
        default=30.0, gt=0, description="seconds after which a queued job that nobody took is published again"
    )
    max_attempts_without_checkpoint: int = Field(
        default=3, ge=1, description="attempts in a row without a new checkpoint until a job fails"
    )
    cancel_grace_s: float = Field(
        default=10.0, ge=0, description="seconds from SIGTERM to SIGKILL of a training"
    )
    warm_trainings: bool = Field(
        default=True,
        description="keep a process with torch and the rest imported ready in every training slot, so that a job runs "
        "at once instead of after seconds; holds some 200 MB a slot (Linux only)",
    )
    checkpoint_every_s: float = Field(default=30.0, gt=0, description="seconds between checkpoints")
    export_onnx: bool = Field(
        default=True,
        description="store model.onnx with every encoder, by which it is served without torch, to the bit the same in "
        "every batch; costs some seconds of CPU a training",
    )
    max_queued_jobs: int = Field(
        default=1000, ge=1, description="waiting jobs from which new ones are answered 429"
    )
    max_training_bytes: int = Field(
        default=80 * GIB,
        ge=0,
        description="estimated bytes of memory of a training beyond which its job is answered 422; 0: any",
    )
    retain_checkpoints_days: float = Field(
        default=7.0, ge=0, le=LONGEST_DAYS, description="days that ended jobs keep checkpoints"
    )
    retain_events_days: float = Field(
        default=90.0, ge=0, le=LONGEST_DAYS, description="days that ended jobs keep events"
    )
    retain_jobs_days: float = Field(
        default=0.0, ge=0, le=LONGEST_DAYS, description="days that ended jobs are kept; 0: for ever"
    )
    retain_audit_days: float = Field(
        default=365.0, ge=0, le=LONGEST_DAYS, description="days that the audit log is kept; 0: for ever"
    )
    disk_quota_bytes: int = Field(
        default=0,
        ge=0,
        description="bytes of encoders, datasets and checkpoints from which uploads are answered 429 and "
        "checkpoints are not stored; 0: none",
    )
    disk_reserve_bytes: int = Field(
        default=256 * MIB,
        ge=0,
        description="free bytes of data_dir's file system below which uploads are answered 429 and checkpoints "
        "are not stored; 0: none",
    )
    cache_max_bytes: int = Field(
        default=64 * GIB,
        ge=0,
        description="bytes of fetched datasets and their arrays in data_dir/cache, beyond which those used "
        "longest ago go; 0: none",
    )


class Keys(BaseSettings):
    """What one API key may do; 0 stands for no limit. Without keys there are no such limits."""

    key_requests_per_s: float = Field(
        default=1000.0,
        ge=0,
        description="requests a second of one key, in each API process, beyond which it is answered 429; 0: any",
    )
    key_burst_requests: int = Field(
        default=2000, ge=1, description="requests that a key may send at once after a pause"
    )
    key_concurrent_requests: int = Field(
        default=2000,
        ge=0,
        description="requests of one key in flight, event streams included, in each API process; 0: any",
    )
    key_queued_jobs: int = Field(
        default=500,
        ge=0,
        description="queued jobs of one key from which its new ones are answered 429; 0: any",
    )
    key_stored_bytes: int = Field(
        default=256 * GIB,
        ge=0,
        description="bytes of datasets and trained encoders that one key may store, from which its uploads and jobs "
        "are answered 429; 0: any",
    )


class Uploads(BaseSettings):
    """Limits of dataset uploads and of every image."""

    max_upload_bytes: int = Field(default=8 * GIB, ge=1, description="bytes of one uploaded dataset")
    max_receivers: int = Field(
        default=128,
        ge=1,
        description="uploads that arrive at a time in each API process, beyond which more are answered 429",
    )
    key_receivers: int = Field(
        default=64,
        ge=0,
        description="uploads of one key that arrive at a time in each API process, beyond which more are answered "
        "429; 0: any",
    )
    max_pixels: int = Field(default=50_000_000, ge=1, le=89_478_485, description="pixels of one image")
    max_archive_members: int = Field(default=2_000_000, ge=1, description="members of one archive")
    max_archive_bytes: int = Field(default=64 * GIB, ge=1, description="uncompressed bytes of one archive")
    max_archive_ratio: float = Field(
        default=200.0, gt=1, description="uncompressed over compressed bytes of a member"
    )
    ingest_timeout_s: float = Field(default=3600.0, gt=0, description="seconds until an ingestion is killed")
    max_ingestions: int = Field(default=2, ge=1, description="ingestions at a time; further ones wait")


class Bodies(BaseSettings):
    """Limits of other request bodies."""

    max_json_bytes: int = Field(
        default=MIB, ge=1, description="bytes of a JSON body, but for images and embeddings"
    )
    max_embed_images: int = Field(default=4096, ge=1, description="images of one embedding request")
    max_embed_bytes: int = Field(default=64 * MIB, ge=1, description="bytes of one embedding request")
    max_generate_images: int = Field(
        default=1024, ge=1, description="images that one request may have generated"
    )
    max_json_rows: int = Field(default=100_000, ge=1, description="rows of a prior sample as JSON")
    max_npy_values: int = Field(
        default=10_000_000,
        ge=1,
        description="values (rows x d) of a prior sample as npy, or of JSON to score",
    )
    body_timeout_s: float = Field(
        default=30.0, gt=0, description="longest silence of a client that sends a body"
    )
    body_min_bytes_per_s: float = Field(
        default=1024.0,
        gt=0,
        description="least rate of a body: slower, a client's time runs out as if it were silent",
    )
    idempotency_hours: float = Field(
        default=24.0, gt=0, le=24 * LONGEST_DAYS, description="hours that an Idempotency-Key is kept"
    )


class Serving(BaseSettings):
    """How images are decoded and embedded."""

    api_processes: int = Field(
        default=1,
        ge=1,
        le=64,
        description="API processes that `nidim up` runs on one socket, each with a share of the cores, and with "
        "encoders, queues and limits of its own",
    )
    serve_device: str = Field(
        default="cpu", pattern=r"^(cpu|mps|cuda(:\d+)?)$", description="device of the encoders"
    )
    engine: Literal["auto", "torch", "onnxruntime"] = Field(
        default="auto",
        description="what computes encoders on the CPU. auto: ONNX Runtime where model.onnx gives the encoder's own "
        "answers to 1e-4, else torch; onnxruntime: also where the file holds no answers to compare with; torch: always",
    )
    serve_threads: int = Field(
        default=0, ge=0, description="threads of one forward pass; 0: chosen from the cores"
    )
    serve_batch_images: int = Field(default=256, ge=1, description="largest batch of one forward pass")
    serve_requests: int = Field(
        default=128,
        ge=1,
        description="requests for embeddings at work in one process, beyond which they are answered 429",
    )
    serve_queue_images: int = Field(
        default=16_384,
        ge=1,
        description="images waiting for one encoder, or to be decoded, from which requests are answered 429",
    )
    serve_queue_s: float = Field(
        default=5.0,
        gt=0,
        description="seconds that a request would wait for an encoder, or for decoding, by its speed of late, from "
        "which it is answered 429",
    )
    serve_inflight_bytes: int = Field(
        default=GIB,
        ge=1,
        description="bytes of embedding requests, as they arrive and as prepared pixels, from which more are "
        "answered 429",
    )
    serve_cache_bytes: int = Field(
        default=2 * GIB, ge=1, description="bytes of loaded encoders; the oldest leave"
    )
    decode_processes: int = Field(
        default=0, ge=0, description="processes that decode images; 0: chosen from the cores"
    )
    decode_timeout_s: float = Field(
        default=30.0, gt=0, description="seconds until a decoding process is replaced"
    )
    sse_poll_s: float = Field(
        default=0.05, gt=0, description="seconds between looks for new events of a stream"
    )
    max_event_streams: int = Field(
        default=5000, ge=1, description="open event streams of one process from which more are answered 429"
    )
    sse_ping_s: float = Field(
        default=15.0, gt=0, description="seconds between the comments that keep a stream alive"
    )
    shutdown_grace_s: float = Field(
        default=30.0,
        ge=0,
        description="seconds that accepted requests get to end when the API is told to stop; then 503",
    )


class Drift(BaseSettings):
    """How embedded images are watched for drift against the prior."""

    drift_enabled: bool = Field(default=True, description="whether embedded images are watched for drift")
    drift_false_alarms_per_day: float = Field(
        default=0.03,
        gt=0,
        le=24,
        description="false alarms a day that are accepted of each encoder while its images are as they were held out",
    )
    drift_unit: Literal["image", "request"] = Field(
        default="image",
        description="what counts as one independent observation: every image, or all images of a request together "
        "where a request holds images of a kind",
    )
    drift_flush_s: float = Field(
        default=1.0,
        gt=0,
        le=60,
        description="seconds between writes of what was watched; as much of it is lost with a killed process",
    )


class Settings(Drift, Serving, Bodies, Uploads, Keys, Control, Network, Places):
    """All settings of one process."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        hide_input_in_errors=True,  # it may be a password
    )

    @field_validator("heartbeat_s")
    @classmethod
    def _in_time(cls, heartbeat_s: float, info: ValidationInfo) -> float:
        """One that is late must not lose the job."""
        if 2 * heartbeat_s > info.data.get("lease_s", math.inf):
            raise ValueError("must be at most half of lease_s")
        return heartbeat_s
