"""Errors that only the HTTP edge and the serving path raise; further leaves of the tree in ``service.errors``.

ServiceError
└── Refusal                          several places of one body may be to blame; extra headers
    ├── BadRequest            400    bad_request
    ├── Unauthorized          401    no_key, bad_key
    ├── Forbidden             403    forbidden: host_not_allowed, origin_not_allowed, scope_missing
    ├── NotAcceptable         406    not_acceptable
    ├── BodyTimeout           408    body_timeout
    ├── HeadTimeout           408    head_timeout
    ├── PreconditionFailed    412    (service.errors)
    ├── TooLarge              413    too_large
    │   └── ImageTooLarge     413    image_too_large
    ├── UnsupportedMediaType  415    unsupported_media_type
    ├── RangeNotSatisfiable   416    range_not_satisfiable
    ├── InvalidBody           422    invalid_value
    │   ├── MalformedBody     422    malformed_body
    │   └── BadImages         422    bad_image
    ├── Overloaded            429    overloaded
    ├── RateLimited           429    rate_limited
    ├── TooManyInFlight       429    too_many_in_flight
    ├── HeadTooLarge          431    head_too_large
    ├── InternalError         500    internal_error
    └── ServingUnavailable    503    not_ready
        ├── EncoderDamaged    503    encoder_damaged
        ├── ForwardFailed     503    forward_failed
        └── StoreUnavailable  503    store_unavailable
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.errors import ServiceError


@dataclass(frozen=True)
class Blame:
    """One place of the request and what is wrong there; ``pointer`` is a JSON pointer into the body."""

    pointer: str
    detail: str
    parameter: str | None = None

    def as_dict(self) -> dict[str, str]:
        """As a member of ``errors``; ``parameter`` names a query parameter or header instead of the body."""
        entry = {"pointer": self.pointer, "detail": self.detail}
        return entry if self.parameter is None else {**entry, "parameter": self.parameter}


class Refusal(ServiceError):
    """The request is refused."""

    status = 400
    code = "refused"

    def __init__(
        self,
        message: str | None = None,
        *,
        code: str | None = None,
        errors: Sequence[Blame] = (),
        headers: Mapping[str, str] | None = None,
        pointer: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, pointer=pointer, retry_after_s=retry_after_s)
        if code is not None:
            self.code = code  # type: ignore[misc]
        self.errors = tuple(errors)
        self.headers = dict(headers or {})


class BadRequest(Refusal):
    """This is not HTTP/1.1; send the request with a common client."""

    status = 400
    code = "bad_request"


class HeadTimeout(Refusal):
    """The headers stopped arriving; send the request again without pauses."""

    status = 408
    code = "head_timeout"


class HeadTooLarge(Refusal):
    """The request line and the headers together are over the limit of 64 KiB."""

    status = 431
    code = "head_too_large"


class Unauthorized(Refusal):
    """Send a key: Authorization: Bearer nk_…"""

    status = 401
    code = "no_key"


class Forbidden(Refusal):
    """The policy of this server forbids the request."""

    status = 403
    code = "forbidden"


class NotAcceptable(Refusal):
    """None of the media types in Accept can be given."""

    status = 406
    code = "not_acceptable"


class BodyTimeout(Refusal):
    """The body stopped arriving; send it again without pauses."""

    status = 408
    code = "body_timeout"


class TooLarge(Refusal):
    """The request is larger than this server allows; send less at a time."""

    status = 413
    code = "too_large"


class ImageTooLarge(TooLarge):
    """An image has more pixels than this server allows; send a smaller one."""

    code = "image_too_large"


class UnsupportedMediaType(Refusal):
    """This Content-Type or Content-Encoding is not understood here."""

    status = 415
    code = "unsupported_media_type"


class RangeNotSatisfiable(Refusal):
    """The range starts after the end of the file."""

    status = 416
    code = "range_not_satisfiable"


class InvalidBody(Refusal):
    """A value in the request cannot be used; see errors for the place."""

    status = 422
    code = "invalid_value"


class MalformedBody(InvalidBody):
    """The body is not what its Content-Type says."""

    code = "malformed_body"


class BadImages(InvalidBody):
    """An image cannot be decoded; send whole PNG, JPEG, WebP, BMP, GIF or TIFF files."""

    code = "bad_image"


class Overloaded(Refusal):
    """The server has too much to do; try again later."""

    status = 429
    code = "overloaded"


class RateLimited(Refusal):
    """This key sends requests faster than it may; wait for Retry-After."""

    status = 429
    code = "rate_limited"


class TooManyInFlight(Refusal):
    """This key has as many requests in flight as it may have; wait for their answers."""

    status = 429
    code = "too_many_in_flight"


class InternalError(Refusal):
    """The server made a mistake; its log has more under the request id."""

    status = 500
    code = "internal_error"


class ServingUnavailable(Refusal):
    """The server cannot answer this now."""

    status = 503
    code = "not_ready"


class StoreUnavailable(ServingUnavailable):
    """The database does not answer now; try again."""

    code = "store_unavailable"


class EncoderDamaged(ServingUnavailable):
    """The stored files of this encoder are damaged; restore them from a copy, or train it again."""

    code = "encoder_damaged"


class ForwardFailed(ServingUnavailable):
    """The encoder failed on this image; the server's log has more under the request id."""

    code = "forward_failed"


def with_status(
    status: int,
    code: str,
    detail: str,
    *,
    errors: Sequence[Blame] = (),
    headers: Mapping[str, str] | None = None,
) -> Refusal:
    """A refusal with a status and a code that another layer chose: the framework, or the ingestion."""
    kind: type[Refusal] = type("OtherRefusal", (Refusal,), {"status": status, "code": code})
    return kind(detail, errors=errors, headers=headers)
