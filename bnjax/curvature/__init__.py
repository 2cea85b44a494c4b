"""The curvature of a training loss, exactly, through live batch statistics too: products, eigenvalues, trace."""

from bnjax.curvature.batch_loss import batch_loss
from bnjax.curvature.eigenvalues import RitzValues, ritz_values, spectral_density
from bnjax.curvature.hessian_product import LinearizedGradient, hessian_vector_product, linearized_gradient
from bnjax.curvature.trace import TraceEstimate, trace

__all__ = [
    "LinearizedGradient",
    "RitzValues",
    "TraceEstimate",
    "batch_loss",
    "hessian_vector_product",
    "linearized_gradient",
    "ritz_values",
    "spectral_density",
    "trace",
]
