"""The decoding process: image files in, pixels out, one exchange after the other over its standard streams.

``python -m service.inference.decoder PARENT``. Whatever hostile bytes do to a codec happens here, not in the API
process. Leaves when its input ends, and is on a leash for the case that it hangs: it never outlives the server.

It begins with READY. A frame is ``<length of the whole: u64> <length of the head: u32> <head: JSON> <body>``.
Request head ``{"size", "channels", "max_pixels", "lengths": [bytes of each image]}``, body: the images.
Answer head ``{"bad": {"<index>": [code, message]}}``, body: uint8 (n, size, size, channels).
"""

from __future__ import annotations

import json
import os
import struct
import sys
from typing import Any, BinaryIO

import numpy as np

from nidim.data.limits import ImageLimits
from nidim.data.pixels import to_array
from nidim.errors import BadImage, ImageTooLarge
from service.leash import leave_with_parent

FRAME = struct.Struct("<QI")
READY = b"R"
"""What the process writes before anything else, when it is there."""
MAX_MEMORY = 4 << 30


def pack(head: dict[str, Any], *body: bytes | memoryview) -> list[bytes | memoryview]:
    """The pieces of one frame."""
    text = json.dumps(head).encode()
    length = len(text) + sum(len(piece) for piece in body)
    return [FRAME.pack(length, len(text)), text, *body]


def unpack(head_length: int, payload: bytes) -> tuple[dict[str, Any], memoryview]:
    """Head and body of a frame's payload."""
    return json.loads(payload[:head_length]), memoryview(payload)[head_length:]


def decode(
    head: dict[str, Any], body: memoryview
) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], dict[str, list[str]]]:
    """Every image of a request; one that cannot be decoded stays black and is named in the second value."""
    size, channels, lengths = head["size"], head["channels"], head["lengths"]
    limits = ImageLimits(max_pixels=head["max_pixels"])
    pixels = np.zeros((len(lengths), size, size, channels), np.uint8)
    bad: dict[str, list[str]] = {}
    start = 0
    for i, length in enumerate(lengths):
        data = bytes(body[start : start + length])
        start += length
        try:
            pixels[i] = to_array(data, size=size, channels=channels, limits=limits)
        except ImageTooLarge as error:
            bad[str(i)] = ["image_too_large", str(error)]
        except (BadImage, MemoryError) as error:
            bad[str(i)] = ["bad_image", str(error) or "decoding it needs too much memory"]
    return pixels, bad


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Answer frames until the input ends."""
    while start := source.read(FRAME.size):
        length, head_length = FRAME.unpack(start)
        head, body = unpack(head_length, source.read(length))
        pixels, bad = decode(head, body)
        for piece in pack({"bad": bad}, pixels.tobytes()):
            sink.write(piece)
        sink.flush()


def main() -> None:
    """Serve on the standard streams; stray prints of libraries go to the error stream."""
    leave_with_parent(int(sys.argv[1]))
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _bound_memory()
    sink.write(READY)
    sink.flush()
    serve(sys.stdin.buffer, sink)


def _bound_memory() -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = MAX_MEMORY if hard == resource.RLIM_INFINITY else min(MAX_MEMORY, hard)
    if soft == resource.RLIM_INFINITY or soft > wanted:
        try:
            resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))
        except (ValueError, OSError):
            return  # macOS refuses; the pixel bound still holds


if __name__ == "__main__":
    main()
