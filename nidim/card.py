"""The model card: what an encoder is, how well it follows its law, how to use it."""

from __future__ import annotations

from typing import Any

import torch

from nidim.capacity import Resolved
from nidim.encoders import ConvNet, build_network
from nidim.evaluate import Report, sentence
from nidim.normalize import EPS
from nidim.spec import FullSpec
from nidim.spec.generator import FullGeneratorSpec, ResolvedGenerator
from nidim.stored import Preprocessing

_TEMPLATE = """\
---
library_name: nidim
tags: [self-supervised, image-feature-extraction, known-prior]
{license}---

# {title}

A self-supervised image encoder whose embeddings follow a known law: **{law}** in {dim} dimensions.
{sentence}

| | |
|---|---|
{rows}

## Use

```python
from pathlib import Path
from nidim import bundle

encoder = bundle.load(Path("."))
embeddings = encoder.embed(images)          # uint8 (n, {size}, {size}, {channels}) -> float32 (n, {dim})
draws = encoder.prior.sample(1000, seed=7)  # float32 (1000, {dim}), from the same law
```

Without nidim, from `model.onnx` if it is among the files (scaling and normalisation inside, resizing not):

```python
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
(embeddings,) = session.run(["embeddings"], {{"images": images}})
```

{plain}Pixels: {rule}.

## Training

Method {method}, noise {noise}, dataset `{dataset}` ({n_train} images; {n_test} held out for every figure above),
{epochs} epochs, batch {batch}, seed {seed}. Spec digest `{digest}`. nidim {nidim}, torch {torch}, {processor}.

## Limits

The certificate speaks of the embedding *with noise*; the ratios above speak of the clean one. The law holds for
images like those of the dataset; for others the p-value of `prior/score` tells how unusual they are.
"""


_PLAIN = """\
Or in plain PyTorch, from `model.safetensors`:

```python
import torch
from safetensors.torch import load_file
from torch.nn import *

network = ModuleDict({{
    "features": Sequential(
        {features},
    ),
    "output": Sequential(
        {output},
    ),
}}).eval()
state = load_file("model.safetensors")
network.load_state_dict({{k.removeprefix("network."): v for k, v in state.items() if k.startswith("network.")}})
pixels = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
with torch.no_grad():
    raw = network["output"](network["features"](pixels))
embeddings = ((raw - state["constraint.mean"]) / (state["constraint.var"] + {eps:g}).sqrt()).numpy()
```

"""


def _plain(spec: FullSpec, resolved: Resolved) -> str:
    """How to load the weights without nidim, where that takes a few lines: the layers as torch shows them are code."""
    if spec.encoder.kind != "conv" or spec.prior.kind != "gaussian":
        return ""
    with torch.device("meta"):  # layers to show need no weights
        network = build_network(spec.encoder, channels=resolved.channels, image_size=resolved.image_size)
    assert isinstance(network, ConvNet)
    parts = {"features": network.features, "output": network.output}
    shown = {name: ",\n        ".join(repr(layer) for layer in layers) for name, layers in parts.items()}
    return _PLAIN.format(**shown, eps=EPS)


def model_card(
    spec: FullSpec, resolved: Resolved, report: Report, provenance: dict[str, Any], *, law: str
) -> str:
    """Markdown with a metadata header, in the form that model hubs read; ``law``: of the embeddings, in words."""
    return _TEMPLATE.format(
        title=f"{spec.encoder.kind} encoder for {spec.dataset}, d = {spec.encoder.dim}",
        law=law,
        sentence=sentence(report),
        rows="\n".join(f"| {name} | {value} |" for name, value in _figures(report)),
        size=resolved.image_size,
        channels=resolved.channels,
        dim=resolved.dim,
        plain=_plain(spec, resolved),
        rule=Preprocessing(image_size=resolved.image_size, channels=resolved.channels).rule,
        method=spec.method.kind,
        noise=_noise(resolved),
        **how_trained(spec, resolved, provenance),
    )


def how_trained(
    spec: FullSpec | FullGeneratorSpec, resolved: Resolved | ResolvedGenerator, provenance: dict[str, Any]
) -> dict[str, Any]:
    """What every card says of a training: on which images, how long, with what; and their license for the header."""
    dataset = provenance["dataset"]
    return {
        "license": f"license: {dataset['license']}\n" if dataset.get("license") else "",
        "dataset": dataset["name"],
        "n_train": dataset["n_train"],
        "n_test": dataset["n_test"],
        "epochs": spec.epochs,
        "batch": resolved.batch_size,
        "seed": spec.seed,
        "digest": spec.digest,
        **{name: provenance[name] for name in ("nidim", "torch", "processor")},
    }


def _noise(resolved: Resolved) -> str:
    if resolved.learned_sigmas is not None:
        low, high = min(resolved.learned_sigmas), max(resolved.learned_sigmas)
        return f"N(0, diag σ_i²), σ_i learned, {low:.4g} to {high:.4g}, with the capacity of σ = {resolved.sigma:.4g}"
    if resolved.sigma is not None:
        return f"N(0, σ²I) with σ = {resolved.sigma:.4g}"
    return f"U([−ε, ε]^d) with ε = {resolved.epsilon:.4g}" if resolved.epsilon is not None else "none"


def _figures(report: Report) -> list[tuple[str, str]]:
    def shown(value: float | None, form: str = ".3f") -> str:
        return "–" if value is None else format(value, form)

    measured = report.representation
    return [
        ("information Î under augmentation, nats", shown(report.mi_nats)),
        ("capacity C of the noisy channel, nats", shown(report.capacity_nats)),
        ("KL to the promised law, nats (95 % upper end)", _interval(report)),
        ("Henze–Zirkler p (the same for true draws)", f"{shown(report.hz_p)} ({shown(report.hz_p_null)})"),
        ("sliced W2 to the prior, times that of true draws", shown(report.sw2_ratio, ".2f")),
        (
            "linear / kNN / MLP accuracy",
            " / ".join(shown(v) for v in (report.linear, report.knn, report.mlp)),
        ),
        (
            "RankMe / LiDAR / alignment / uniformity",
            "–"
            if measured is None
            else f"{measured.rankme:.1f} / {measured.lidar:.1f} / {measured.alignment:.3f} / {measured.uniformity:.3f}",
        ),
    ]


def _interval(report: Report) -> str:
    if report.kl_bound_nats is None:
        return "–"
    return f"{report.kl_bound_nats:.3f} ({report.kl_bound_upper95_nats:.3f})"
