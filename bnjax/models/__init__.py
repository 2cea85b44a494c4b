"""Flax models with the normalizer passed in."""

from bnjax.models.normalizer import Normalization

__all__ = ["Normalization"]
