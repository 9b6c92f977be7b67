"""Which parts of a spec contradict each other, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nidim.spec import matching
from nidim.spec.maps import least_size, local_map, patch_of

if TYPE_CHECKING:
    from nidim.spec.train import TrainSpec


def normalization_for(noise: matching.Noise) -> matching.Normalization:
    """The constraint on f that this noise needs: support [0, 1]^d for uniform noise, else unit moments."""
    if noise.kind == "uniform" or (noise.kind == "none" and noise.certificate_epsilon is not None):
        return matching.SigmoidNormalization()
    return matching.BatchNormNormalization()


def contradiction(spec: TrainSpec) -> tuple[str, str] | None:
    """The first contradiction as (field, advice), or None. Fields that were not given contradict nothing."""
    for rule in (
        _only_infomax_has_a_critic,
        _noise_fits_prior,
        _image_fits_encoder,
        _dimension_fits_prior,
        _normalization_fits,
        _certificate_fits,
        _first_stage,
        _local_map_has_cells,
        _noise_between_blocks,
        _learned_noise_is_shared,
        _channel_critic,
        _pulley,
    ):
        if problem := rule(spec):
            return problem
    return None


def _only_infomax_has_a_critic(spec: TrainSpec) -> tuple[str, str] | None:
    if spec.method is None or spec.method.kind == "infomax":
        return None
    for field, called in (("critic", "a critic"), ("objective", "an objective")):
        if getattr(spec, field) is not None:
            return (
                field,
                f"method {spec.method.kind} does not use {called}: it has a loss of its own; leave it out",
            )
    return None


def _noise_fits_prior(spec: TrainSpec) -> tuple[str, str] | None:
    if spec.noise is None or spec.prior is None:
        return None
    if spec.prior.kind != "uniform" and spec.noise.kind == "uniform":
        return (
            "noise",
            f"uniform noise cannot make a prior {spec.prior.kind}; use gaussian noise or prior uniform",
        )
    return None


def _image_fits_encoder(spec: TrainSpec) -> tuple[str, str] | None:
    if spec.encoder is None or spec.image_size is None:
        return None
    size, least = spec.image_size, least_size(spec.encoder)
    if size < least:
        return "image_size", f"{spec.encoder.kind} needs images of {least} pixels a side or more, not {size}"
    if spec.encoder.kind != "vit_small" or size % (patch := patch_of(spec.encoder, size)) == 0:
        return None
    return (
        "encoder",
        f"patches of {patch} pixels do not tile images of {size}; use a divisor of it or leave patch out",
    )


def _dimension_fits_prior(spec: TrainSpec) -> tuple[str, str] | None:
    if spec.prior is None or spec.encoder is None:
        return None
    if spec.prior.kind == "sphere" and spec.encoder.dim < 2:
        return "encoder", "a sphere needs a dim of at least 2: the sphere of one dimension is two points"
    if spec.prior.kind == "flow" and spec.prior.dim != spec.encoder.dim:
        return (
            "encoder",
            f"the points of the prior have {spec.prior.dim} coordinates, the encoder gives {spec.encoder.dim}; "
            f"use dim {spec.prior.dim}",
        )
    return None


def _normalization_fits(spec: TrainSpec) -> tuple[str, str] | None:
    if spec.normalization is None:
        return None
    if spec.normalization.kind == "sigmoid":
        if spec.noise is not None and spec.noise.kind == "gaussian":
            return "normalization", "gaussian noise needs batchnorm, not sigmoid; leave the field out"
        if spec.prior is None or spec.prior.kind != "uniform":
            kind = "gaussian" if spec.prior is None else spec.prior.kind
            return "normalization", f"a prior {kind} needs batchnorm, not sigmoid; leave the field out"
    elif spec.noise is not None and spec.noise.kind == "uniform":
        return "normalization", "uniform noise needs sigmoid, not batchnorm; leave the field out"
    return None


def _certificate_fits(spec: TrainSpec) -> tuple[str, str] | None:
    if spec.noise is None or spec.noise.kind != "none":
        return None
    sigma, epsilon = spec.noise.certificate_sigma, spec.noise.certificate_epsilon
    if sigma is not None and epsilon is not None:
        return "noise", "give certificate_sigma or certificate_epsilon, not both"
    if sigma is not None and spec.normalization is not None and spec.normalization.kind == "sigmoid":
        return "noise", "a sigmoid output is judged under uniform noise: give certificate_epsilon"
    if epsilon is None:
        return None
    if spec.normalization is not None and spec.normalization.kind == "batchnorm":
        return "noise", "certificate_epsilon is for a sigmoid output; give certificate_sigma"
    if spec.prior is not None and spec.prior.kind != "uniform":
        return "prior", "certificate_epsilon is for a uniform prior; give certificate_sigma"
    return None


def _first_stage(spec: TrainSpec) -> tuple[str, str] | None:
    if spec.method is None or spec.method.kind != "infomax":
        return None
    if spec.method.first_epochs is not None and spec.method.neighbors == 0:
        return "method", "first_epochs are those of a first stage: give neighbors, too, or leave them out"
    return None


def _local_map_has_cells(spec: TrainSpec) -> tuple[str, str] | None:
    if spec.method is None or spec.method.kind != "infomax" or spec.method.local == 0:
        return None
    if spec.encoder is None or spec.image_size is None or local_map(spec.encoder, spec.image_size):
        return None
    return (
        "method",
        f"local needs a feature map of several cells, and {spec.encoder.kind} has none for images of "
        f"{spec.image_size} pixels; use "
        + ("another encoder" if spec.encoder.kind == "vit_small" else "larger images")
        + " or leave local out",
    )


def _noise_between_blocks(spec: TrainSpec) -> tuple[str, str] | None:
    if spec.noise is None or spec.noise.kind != "gaussian" or spec.noise.layers == 0 or spec.encoder is None:
        return None
    if spec.encoder.kind == "vit_small":
        return "noise", "layers is noise on feature maps, and vit_small has none; leave layers out"
    return None


def _learned_noise_is_shared(spec: TrainSpec) -> tuple[str, str] | None:
    if spec.noise is None or spec.noise.kind != "gaussian" or not spec.noise.learned:
        return None
    if spec.encoder is not None and spec.encoder.dim == 1:
        return "noise", "learned noise shares a capacity between coordinates, and d is 1; leave learned out"
    return None


def _channel_critic(spec: TrainSpec) -> tuple[str, str] | None:
    if spec.critic is None or spec.critic.kind != "gaussian_channel":
        return None
    if spec.noise is not None and spec.noise.kind != "gaussian":
        return "critic", "gaussian_channel is the critic of gaussian noise; use separable"
    if spec.noise is not None and (
        spec.noise.start is not None or spec.noise.branches == "both" or spec.noise.learned
    ):
        return "critic", "gaussian_channel is exact for one constant σ on one branch; use separable"
    if spec.head is not None and spec.head.kind != "none":
        return "head", "gaussian_channel scores the embedding itself; use head none"
    return None


def _pulley(spec: TrainSpec) -> tuple[str, str] | None:
    if spec.regularizer is None or spec.regularizer.kind == "none":
        return None
    if (spec.noise is not None and spec.noise.kind == "uniform") or (
        spec.normalization is not None and spec.normalization.kind == "sigmoid"
    ):
        kind = spec.regularizer.kind
        return "regularizer", f"{kind} pulls to a Gaussian latent; use it with batchnorm normalisation"
    return None
