"""Specs: pydantic only, no torch. One source for API body, CLI file, worker input and stored bundle."""

from nidim.spec.names import NAME_PATTERN
from nidim.spec.train import DatasetFacts, FullSpec, Name, TrainSpec

__all__ = ["NAME_PATTERN", "DatasetFacts", "FullSpec", "Name", "TrainSpec"]
