"""One encoder in one engine, in a process of its own: in our environment, or OpenVINO in the peers'. See engines.py."""

import time
from pathlib import Path

import numpy as np

LOADED = {}


def torch_engine(directory, threads, *, channels_last=False, compiled=False):
    """As the service would run it in torch; laid out or compiled otherwise."""
    import torch

    from nidim import bundle
    from nidim.hardware import to_layout

    torch.set_num_threads(threads)
    found = bundle.load(directory)
    if channels_last:
        to_layout(found.model, torch.channels_last)
    if not compiled:
        return found.embed
    forward = torch.compile(found.model.embed_uint8, dynamic=False)

    def embed(images):
        with torch.no_grad():
            return forward(torch.from_numpy(images)).numpy()

    return embed


def onnxruntime_engine(directory, threads):
    """As the service runs it."""
    from nidim.onnx_run import OnnxEncoder

    return OnnxEncoder(directory / "model.onnx", threads=threads).embed


def openvino_engine(directory, threads):
    """In float32: by itself it takes bfloat16 where the processor has it."""
    import openvino

    wanted = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    core = openvino.Core()
    model = core.compile_model(core.read_model(str(directory / "model.onnx")), "CPU", wanted)
    return lambda images: model(images)[0]


ENGINES = {
    "onnxruntime": onnxruntime_engine,
    "torch": torch_engine,
    "torch channels_last": lambda directory, threads: torch_engine(directory, threads, channels_last=True),
    "torch.compile": lambda directory, threads: torch_engine(directory, threads, compiled=True),
    "openvino": openvino_engine,
}


def load(engine, directory, threads):
    """Import the library and make it ready, with the images of ``directory``."""
    LOADED["images"] = np.load(Path(directory) / "images.npy", allow_pickle=False)
    began = time.perf_counter()
    LOADED["embed"] = ENGINES[engine](Path(directory), threads)
    return {"seconds": time.perf_counter() - began}


def first(batch):
    """The first pass of a size, with what is compiled for it."""
    began = time.perf_counter()
    LOADED["embed"](LOADED["images"][:batch])
    return {"seconds": time.perf_counter() - began}


def forward(batch, repeats):
    """Seconds, and processor seconds, of one of ``repeats`` passes."""
    embed, images = LOADED["embed"], LOADED["images"][:batch]
    cpu, began = time.process_time(), time.perf_counter()
    for _ in range(repeats):
        embed(images)
    seconds = (time.perf_counter() - began) / repeats
    return {"seconds": seconds, "cpu_s": (time.process_time() - cpu) / repeats}


def rows(path, batches):
    """Embeddings of all images to ``path``; by how much the first rows differ in other batches."""
    embed, images = LOADED["embed"], LOADED["images"]
    together = embed(images)
    np.save(path, together)
    gaps = [float(np.abs(embed(images[:n]) - together[:n]).max()) for n in batches]
    return {"batching": max(gaps)}


WORK = {"load": load, "first": first, "forward": forward, "rows": rows}
