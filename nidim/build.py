"""The only place where a spec becomes torch objects."""

from __future__ import annotations

import torch
from torch import nn

from nidim import optimizers
from nidim.capacity import Resolved
from nidim.critics import SeparableCritic, build_critic
from nidim.encoders import EncoderModel, build_network
from nidim.layers import mlp
from nidim.methods import (
    BYOL,
    InfoMax,
    LeJEPA,
    LocalBound,
    Method,
    RedundancyReduction,
    SimCLR,
    SimSiam,
    Wiring,
)
from nidim.normalize import UnitInterval, UnitMoments
from nidim.objectives import build_objective
from nidim.priors import Prior, make_prior
from nidim.spec import FullSpec, parts
from nidim.spec.maps import local_map
from nidim.warp import build_warp


def build_encoder(spec: FullSpec, resolved: Resolved, prior: Prior | None = None) -> EncoderModel:
    """The encoder of a filled spec, randomly initialised from torch's default generator, float32, CPU.

    ``prior``: the law of its embeddings, where it is there already; else it is made.
    """
    network = build_network(spec.encoder, channels=resolved.channels, image_size=resolved.image_size)
    sigmoid = spec.normalization.kind == "sigmoid"
    constraint = UnitInterval() if sigmoid else UnitMoments(spec.encoder.dim)
    return EncoderModel(network, constraint, build_warp(prior or make_prior(spec)))


def build_method(spec: FullSpec, resolved: Resolved) -> Method:
    """The method of a filled spec with its head, critic and objective."""
    head, width = _build_head(spec.head, spec.encoder.dim)
    method, wiring = spec.method, Wiring(head, spec.augmentation, spec.noise, resolved)
    if method.kind == "simclr":
        return SimCLR(wiring, temperature=method.temperature)
    if method.kind == "vicreg" or method.kind == "barlow_twins":
        return RedundancyReduction(wiring, settings=method)
    if method.kind == "lejepa":
        return LeJEPA(wiring, settings=method)
    if method.kind == "simsiam" or method.kind == "byol":
        predictor = mlp(width, method.hidden, width, batchnorm=True)
        if method.kind == "simsiam":
            return SimSiam(wiring, predictor=predictor)
        return BYOL(wiring, predictor=predictor, momentum=method.momentum)
    if spec.critic is None or spec.objective is None:
        raise ValueError("infomax needs a critic and an objective: spec.filled(facts)")
    return InfoMax(
        wiring,
        critic=build_critic(spec.critic, width, sigma=resolved.sigma),
        objective=build_objective(spec.objective),
        local=_build_local(method, spec.objective, spec, resolved) if method.local else None,
    )


def _build_local(
    method: parts.InfoMaxMethod, objective: parts.Objective, spec: FullSpec, resolved: Resolved
) -> LocalBound:
    """The local bound with a critic as wide as the global one where that is separable, too."""
    place = local_map(spec.encoder, resolved.image_size)
    if place is None:
        raise ValueError(f"no feature map of {spec.encoder.kind} has cells: {resolved.image_size} pixels")
    size = (
        spec.critic
        if spec.critic is not None and spec.critic.kind == "separable"
        else parts.SeparableCritic()
    )
    return LocalBound(
        place,
        critic=SeparableCritic(spec.encoder.dim, hidden=size.hidden, dim=size.dim, width=place.channels),
        objectives=[build_objective(objective) for _ in range(place.side**2)],
        weight=method.local,
    )


def _build_head(head: parts.Head, d: int) -> tuple[nn.Module, int]:
    """The projection and the length of what it gives."""
    if head.kind == "none":
        return nn.Identity(), d
    return mlp(d, head.hidden, head.dim, batchnorm=head.batchnorm), head.dim


def build_optimizer(settings: parts.Optimizer, *modules: nn.Module) -> torch.optim.Optimizer:
    """The optimiser of ``modules``; weight decay on matrices and kernels only."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    lr = settings.lr
    if settings.kind == "adamw":
        return optimizers.AdamW(groups, lr=lr, fused=True)
    momentum = settings.momentum
    return optimizers.SGD(groups, lr=lr, momentum=momentum, nesterov=momentum > 0, fused=True)
