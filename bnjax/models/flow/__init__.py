"""A normalizing flow on images, RealNVP, with the normalizers passed in."""

from bnjax.models.flow.coupling import Coupling
from bnjax.models.flow.likelihood import bits_per_dimension, log_likelihood, negative_log_likelihood
from bnjax.models.flow.normalization import FlowNormalization
from bnjax.models.flow.partition import Channels, Checkerboard
from bnjax.models.flow.pixels import dequantized
from bnjax.models.flow.realnvp import RealNVP

__all__ = [
    "Channels",
    "Checkerboard",
    "Coupling",
    "FlowNormalization",
    "RealNVP",
    "bits_per_dimension",
    "dequantized",
    "log_likelihood",
    "negative_log_likelihood",
]
