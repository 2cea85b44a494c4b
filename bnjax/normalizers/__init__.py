"""Normalizers as pure functions over explicit statistics; pure JAX, no flax."""

from bnjax.normalizers.batch import batch_norm
from bnjax.normalizers.detached import detached_batch_norm
from bnjax.normalizers.frozen import frozen_batch_norm
from bnjax.normalizers.ghost import ghost_batch_norm
from bnjax.normalizers.group import group_norm
from bnjax.normalizers.identity import identity
from bnjax.normalizers.instance import instance_norm
from bnjax.normalizers.layer import layer_norm
from bnjax.normalizers.lp import lp_norm
from bnjax.normalizers.noisy import noisy_batch_norm
from bnjax.normalizers.normalizer import Affine, AffinePhase, Normalizer, Standardized, build_normalizer
from bnjax.normalizers.post_shifted import post_shifted_batch_norm
from bnjax.normalizers.renorm import batch_renorm
from bnjax.normalizers.rms import rms_norm

__all__ = [
    "Affine",
    "AffinePhase",
    "Normalizer",
    "Standardized",
    "batch_norm",
    "batch_renorm",
    "build_normalizer",
    "detached_batch_norm",
    "frozen_batch_norm",
    "ghost_batch_norm",
    "group_norm",
    "identity",
    "instance_norm",
    "layer_norm",
    "lp_norm",
    "noisy_batch_norm",
    "post_shifted_batch_norm",
    "rms_norm",
]
