"""Serving: real processes and sockets, beside a bare endpoint, the bare encoder, and LitServe and BentoML, in turns.

The load generator takes part of the same cores. So the rates stand beside two limits, without and with its share, and
the processor time of the server a request beside t_http + t_decode + t_forward, which the client does not touch.
"""

from __future__ import annotations

import json

from benchmarks.speed import measure
from benchmarks.speed.serving_limits import Bodies
from benchmarks.speed.serving_loads import SMALL, Size, bulk, field, one_image
from benchmarks.speed.serving_saturation import api_processes, past_saturation
from benchmarks.speed.serving_starts import many_encoders, starts

SEED = 0
PACKAGES = ("fastapi", "starlette", "uvicorn", "uvloop", "httptools", "pillow", "orjson")


def main(small: bool) -> None:
    """Measure all parts; store them unless it is a trial."""
    where, size = measure.surroundings(SEED, PACKAGES), SMALL if small else Size()
    with field(size) as servers:
        rows, capacity = one_image(servers)
        measure.told(rows)
        rows += measure.told(bulk(servers))
    bodies = Bodies.make(size.jpegs)
    rows += measure.told(past_saturation(size, bodies.png, capacity))
    rows += measure.told(api_processes(size, bodies.png))
    rows += measure.told(starts(size, bodies))
    rows += measure.told(many_encoders(size, bodies))
    if small:
        print(json.dumps(rows, indent=1))
    else:
        print(measure.store("serving", rows, where=where, shared="client and servers share the cores"))
