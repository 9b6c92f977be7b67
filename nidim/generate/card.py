"""The model card of a generator."""

from __future__ import annotations

from typing import Any

from nidim.card import how_trained
from nidim.generate.report import GeneratorReport, Quality, sentence
from nidim.spec.generator import FullGeneratorSpec, ResolvedGenerator

_TEMPLATE = """\
---
library_name: nidim
tags: [image-generation, known-prior]
{license}---

# {title}

Makes images of {size} × {size} pixels from points of a known law, **{law}** in {dim} dimensions: draws of it, which
need no data, or embeddings of the encoder `{source}`.
{sentence}

| fed with | Fréchet distance | precision | recall | distance of class shares | same class |
|---|---|---|---|---|---|
| draws of the prior | {prior} |
| embeddings of held-out images | {heldout} |

Distances between {features}, {images} images a set; real images among each other: {floor:.3g}.

![Draws](samples.png)

## Use

```python
from pathlib import Path
from nidim.generate import bundle

generator = bundle.load(Path("."))
images = generator.generate(16, seed=7)               # uint8 (16, {size}, {size}, {channels}), from the prior
again = generator.from_embeddings(embeddings, seed=7)  # from float32 (n, {dim})
```

## Training

{model}, dataset `{dataset}` ({n_train} images; {n_test} held out), {epochs} epochs, batch {batch}, seed {seed}. Spec
digest `{digest}`. nidim {nidim}, torch {torch}, {processor}.
"""
_NAMES = {
    "flow_matching": "Conditional flow matching",
    "gan": "Conditional GAN with a projection discriminator",
}
_FEATURES = {
    "classifier": "features of a classifier trained on the same dataset",
    "encoder": "embeddings of the encoder: the dataset has no labels",
}


def generator_card(
    spec: FullGeneratorSpec,
    resolved: ResolvedGenerator,
    report: GeneratorReport,
    provenance: dict[str, Any],
    *,
    law: str,
) -> str:
    """Markdown with a metadata header, in the form that model hubs read."""
    return _TEMPLATE.format(
        title=f"Generator for {spec.dataset}, from d = {resolved.dim}",
        law=law,
        size=resolved.image_size,
        channels=resolved.channels,
        dim=resolved.dim,
        source=spec.source,
        sentence=sentence(report),
        prior=_figures(report.prior),
        heldout=_figures(report.heldout),
        features=_FEATURES[report.features],
        images=report.images,
        floor=report.floor,
        model=_NAMES[spec.model.kind],
        **how_trained(spec, resolved, provenance),
    )


def _figures(quality: Quality) -> str:
    values = (
        (quality.frechet_distance, ".3g"),
        (quality.precision, ".3f"),
        (quality.recall, ".3f"),
        (quality.class_distance, ".3f"),
        (quality.class_agreement, ".3f"),
    )
    return " | ".join("–" if value is None else format(value, form) for value, form in values)
