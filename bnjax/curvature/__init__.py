"""The curvature of a training loss, exactly, through live batch statistics too: products, eigenvalues, trace."""

from bnjax.curvature.along_gradient import AlongGradient, along_gradient, curvature_along_gradient
from bnjax.curvature.batch_loss import batch_loss
from bnjax.curvature.eigenvalues import RitzValues, ritz_values, spectral_density
from bnjax.curvature.hessian_product import LinearizedGradient, hessian_vector_product, linearized_gradient
from bnjax.curvature.trace import TraceEstimate, trace

__all__ = [
    "AlongGradient",
    "LinearizedGradient",
    "RitzValues",
    "TraceEstimate",
    "along_gradient",
    "batch_loss",
    "curvature_along_gradient",
    "hessian_vector_product",
    "linearized_gradient",
    "ritz_values",
    "spectral_density",
    "trace",
]
