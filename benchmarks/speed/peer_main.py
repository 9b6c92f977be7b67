"""Runs in the peers' environment: ``python peer_main.py peer_<section>.py``. See peers.py."""

import importlib.util
import json
import os
import sys
import time
from pathlib import Path


def peak_mb():
    """Peak resident memory since it was last reset, MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1e3


def resident_mb():
    """Resident memory now, MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def main():
    """Answer until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    spec = importlib.util.spec_from_file_location("work", sys.argv[1])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            Path("/proc/self/clear_refs").write_text("5")
            before, began = resident_mb(), time.perf_counter()
            result = module.WORK[asked["work"]](**asked["given"])
            seconds = time.perf_counter() - began
            if isinstance(result, dict) and "seconds" in result:
                seconds = result.pop("seconds")  # it timed the part that counts
            answer = {"seconds": seconds, "peak_mb": max(0.0, peak_mb() - before), "result": result}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
