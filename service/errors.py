"""Errors of the service.

    ServiceError                        every answer that is not a success; status and code, no default status
    ├── NotFound              404       not_found
    ├── StateConflict         409       state_conflict
    │   ├── LostLease         409       lost_lease
    │   ├── NameTaken         409       name_taken
    │   ├── DatasetInUse      409       dataset_in_use
    │   ├── DatasetUnavailable 409      dataset_unavailable
    │   ├── EncoderAliased    409       encoder_aliased
    │   ├── SourceGone        409       source_gone
    │   ├── NothingBefore     409       nothing_before
    │   └── IdempotencyInFlight 409     idempotency_in_flight
    ├── PreconditionFailed    412       precondition_failed
    ├── StoreBusy             429       store_busy
    ├── Unprocessable         422       unprocessable
    │   ├── BadCursor         422       bad_cursor
    │   ├── VersionRequired   422       version_required
    │   ├── WeakKey           422       weak_key
    │   └── IdempotencyMismatch 422     idempotency_mismatch
    ├── QuotaExceeded         429       quota_exceeded
    │   └── StorageFull       429       storage_full
    ├── BlobDamaged           500       blob_damaged
    │   └── BlobMissing       500       blob_missing
    └── BlobsUnavailable      503       blobs_unavailable, also an OSError

``status`` is the HTTP status, ``code`` is stable and meant for programs. A class that does not name both cannot be
defined, so no error ever becomes a 500 by neglect. The docstring is the default message, written for the person who
has to mend it; it never holds a path or a traceback.
"""

from __future__ import annotations

import inspect
from typing import ClassVar


class ServiceError(Exception):
    """The request cannot be answered.

    ``pointer`` is a JSON pointer into the body where one field is to blame; ``retry_after_s`` is sent as
    ``Retry-After`` where trying again later helps.
    """

    status: ClassVar[int]
    code: ClassVar[str]

    def __init_subclass__(cls) -> None:
        for name in ("status", "code"):
            if not hasattr(cls, name):
                raise TypeError(f"{cls.__name__} must name its {name}")

    def __init__(
        self, message: str | None = None, *, pointer: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message or inspect.cleandoc(type(self).__doc__ or ""))
        self.pointer = pointer
        self.retry_after_s = retry_after_s


class NotFound(ServiceError):
    """There is no such thing; look at the list for what exists."""

    status = 404
    code = "not_found"


class StateConflict(ServiceError):
    """The state of the thing does not allow this; read it again and decide."""

    status = 409
    code = "state_conflict"


class LostLease(StateConflict):
    """Another worker has the job, or it has ended; stop working on it and write nothing more."""

    code = "lost_lease"


class NameTaken(StateConflict):
    """The name is taken; choose another one or delete the old thing first."""

    code = "name_taken"


class DatasetInUse(StateConflict):
    """A queued or running job needs the dataset; cancel the job or wait until it has ended."""

    code = "dataset_in_use"


class DatasetUnavailable(StateConflict):
    """The dataset is not here yet; wait for its ingestion, give its directory, or allow downloads."""

    code = "dataset_unavailable"


class SourceGone(StateConflict):
    """The encoder that this generator is trained with was deleted; name another one."""

    code = "source_gone"


class EncoderAliased(StateConflict):
    """An alias points to this version; move or delete the alias first."""

    code = "encoder_aliased"


class NothingBefore(StateConflict):
    """The alias pointed to nothing before its last move; put it to a version, or delete it."""

    code = "nothing_before"


class IdempotencyInFlight(StateConflict):
    """The first request with this Idempotency-Key is still being answered; try again in a moment."""

    code = "idempotency_in_flight"


class PreconditionFailed(ServiceError):
    """The thing changed since you read it; read it again and send its new ETag in If-Match."""

    status = 412
    code = "precondition_failed"


class Unprocessable(ServiceError):
    """A value in the request cannot be used; change the field that is named."""

    status = 422
    code = "unprocessable"


class BadCursor(Unprocessable):
    """The cursor is not one of ours; send next_cursor of the page before as it came, or none for the first page."""

    code = "bad_cursor"


class VersionRequired(Unprocessable):
    """A bare name or an alias is ambiguous here; name one version, as in name@3, or give its id."""

    code = "version_required"


class WeakKey(Unprocessable):
    """The key is too short to be safe; use nk_ and at least 32 random characters, such as token_urlsafe(32)."""

    code = "weak_key"


class IdempotencyMismatch(Unprocessable):
    """This Idempotency-Key was used with another body; send a new key with a new request."""

    code = "idempotency_mismatch"


class QuotaExceeded(ServiceError):
    """A quota of this server is used up; delete what is no longer needed or ask its operator for more."""

    status = 429
    code = "quota_exceeded"


class StorageFull(QuotaExceeded):
    """The disk of this server is nearly full; delete what is no longer needed, or tell its operator."""

    code = "storage_full"


class BlobDamaged(ServiceError):
    """A stored file is not what was written; restore the blob store from a copy, or train again."""

    status = 500
    code = "blob_damaged"


class BlobMissing(BlobDamaged):
    """A stored file is gone; restore the blob store from a copy, or train again."""

    code = "blob_missing"


class BlobsUnavailable(ServiceError, OSError):
    """The blob store does not answer; try again when it does, or ask the operator of this server."""

    status = 503
    code = "blobs_unavailable"


class StoreBusy(ServiceError):
    """The database has too much to do; try again in a moment."""

    status = 429
    code = "store_busy"
