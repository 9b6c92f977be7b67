"""Errors of the client.

NidimError                          (nidim.errors) anything that a caller can mend
├── NidimServerError                the server answered with an error: .status .code .detail .errors .request_id
│   ├── Unauthorized          401
│   ├── Forbidden             403
│   ├── NotFound              404
│   ├── Conflict              409
│   ├── PreconditionFailed    412
│   ├── TooLarge              413
│   ├── Invalid               422
│   │   └── BadImage          422   code bad_image; .index counts from the first image that was given
│   ├── Busy                  429   .retry_after_s
│   └── ServerFault           5xx
│       └── Unavailable       503
├── ServerUnreachable               no answer at all
├── WaitTimeout                     a wait took longer than it was allowed to; what was waited for goes on
├── JobEnded                        a job did not end well: .code .message .job
│   ├── JobFailed
│   └── JobCancelled
├── IngestionFailed                 an upload holds no usable dataset: .code .message
└── DownloadDamaged                 a file is not what the server's list says
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from nidim.errors import NidimError

MAX_TEXT = 500
IN_FLIGHT = "idempotency_in_flight"


@dataclass(frozen=True)
class Place:
    """One place of the request that is to blame; ``parameter`` is a query parameter or header instead of the body."""

    pointer: str
    detail: str
    parameter: str | None = None


class NidimServerError(NidimError):
    """An answer that is an error, after RFC 9457; ``code`` is stable and meant for programs."""

    def __init__(
        self,
        *,
        status: int,
        code: str,
        detail: str,
        errors: Sequence[Place] = (),
        request_id: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        self.status, self.code, self.detail = status, code, detail
        self.errors, self.request_id, self.retry_after_s = tuple(errors), request_id, retry_after_s
        super().__init__(self._text())

    def _text(self) -> str:
        places = "".join(f"\n  {e.parameter or e.pointer or 'body'}: {e.detail}" for e in self.errors[:20])
        asked = f", request {self.request_id}" if self.request_id else ""
        return f"{self.detail} ({self.status} {self.code}{asked}){places}"

    def shifted(self, rows: int) -> Self:
        """The same error where ``rows`` images stand before those of the request."""
        return type(self)(
            status=self.status,
            code=self.code,
            detail=_moved(self.detail, r"^(Image )(\d+)", rows),
            errors=[
                Place(_moved(e.pointer, r"^(/images/)(\d+)", rows), e.detail, e.parameter)
                for e in self.errors
            ],
            request_id=self.request_id,
            retry_after_s=self.retry_after_s,
        )


class Unauthorized(NidimServerError):
    """401: no key, or one that the server does not know."""


class Forbidden(NidimServerError):
    """403: the policy of the server, or the scopes of the key, forbid it."""


class NotFound(NidimServerError):
    """404: there is no such thing."""


class Conflict(NidimServerError):
    """409: the state of the thing does not allow it."""


class PreconditionFailed(NidimServerError):
    """412: the thing changed since it was read."""


class TooLarge(NidimServerError):
    """413: more than this server takes at a time."""


class Invalid(NidimServerError):
    """422: a value cannot be used; ``errors`` says which."""


class BadImage(Invalid):
    """422: an image cannot be decoded."""

    @property
    def index(self) -> int | None:
        """The first bad image, counted from the first one that was given."""
        found = (re.fullmatch(r"/images/(\d+)", place.pointer) for place in self.errors)
        return min((int(match[1]) for match in found if match), default=None)


class Busy(NidimServerError):
    """429: over a limit; try again after ``retry_after_s``."""


class ServerFault(NidimServerError):
    """5xx: not the caller's doing."""


class Unavailable(ServerFault):
    """503: not now."""


class ServerUnreachable(NidimError):
    """The server gave no answer."""


class WaitTimeout(NidimError):
    """It took longer than the wait was allowed to; it goes on at the server."""


class JobEnded(NidimError):
    """A job ended without an encoder."""

    def __init__(self, job: Any, *, code: str, message: str) -> None:
        self.job, self.code, self.message = job, code, message
        super().__init__(f"Job {job.id} {job.state}: {message} ({code})")


class JobFailed(JobEnded):
    """The training failed; ``job.retry()`` goes on from its last checkpoint."""


class JobCancelled(JobEnded):
    """The job was cancelled; ``job.retry()`` goes on from its last checkpoint."""


class IngestionFailed(NidimError):
    """The uploaded file holds no usable dataset."""

    def __init__(self, name: str, *, code: str, message: str) -> None:
        self.code, self.message = code, message
        super().__init__(f"Dataset {name} cannot be used: {message} ({code})")


class DownloadDamaged(NidimError):
    """A downloaded file is not what the server's list says; download it again."""


BY_STATUS: Mapping[int, type[NidimServerError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    412: PreconditionFailed,
    413: TooLarge,
    422: Invalid,
    429: Busy,
    503: Unavailable,
}
BY_CODE: Mapping[str, type[NidimServerError]] = {"bad_image": BadImage}


def from_problem(
    status: int, body: object, *, request_id: str | None, retry_after_s: float | None
) -> NidimServerError:
    """The typed error of an answer; ``body`` is its problem document, or whatever else came in its place."""
    problem: Mapping[str, Any] = body if isinstance(body, dict) else {}
    code = str(problem.get("code") or f"http_{status}")
    kind = BY_CODE.get(code) or BY_STATUS.get(status) or (ServerFault if status >= 500 else NidimServerError)
    other = body[:MAX_TEXT] if isinstance(body, str) and body else "The answer is no problem document."
    return kind(
        status=status,
        code=code,
        detail=str(problem.get("detail") or problem.get("title") or other),
        errors=[_place(entry) for entry in problem.get("errors") or () if isinstance(entry, dict)],
        request_id=problem.get("request_id") or request_id,
        retry_after_s=retry_after_s,
    )


def _place(entry: Mapping[str, Any]) -> Place:
    parameter = entry.get("parameter")
    return Place(
        str(entry.get("pointer", "")),
        str(entry.get("detail", "")),
        str(parameter) if parameter is not None else None,
    )


def _moved(text: str, pattern: str, rows: int) -> str:
    return re.sub(pattern, lambda found: f"{found[1]}{int(found[2]) + rows}", text, count=1)
