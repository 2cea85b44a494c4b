"""What can be read off a network: its layers, its features, and what becomes of gradients on their way through it."""

from bnjax.measurements.average_precision import AveragePrecision, average_precision
from bnjax.measurements.blocked_share import BlockedShare, GradientParts, Metered, blocked_share, gradient_parts
from bnjax.measurements.collapse import before_relu, filter_margins
from bnjax.measurements.covariate_shift import CovariateShift, internal_covariate_shift, parameter_order
from bnjax.measurements.features import last_layer_inputs, neighbour_accuracy, t_sne
from bnjax.measurements.layers import AppliedLayer, applied_layers, layer_names
from bnjax.measurements.pruning import Pruned, prune

__all__ = [
    "AppliedLayer",
    "AveragePrecision",
    "BlockedShare",
    "CovariateShift",
    "GradientParts",
    "Metered",
    "Pruned",
    "applied_layers",
    "average_precision",
    "before_relu",
    "blocked_share",
    "filter_margins",
    "gradient_parts",
    "internal_covariate_shift",
    "last_layer_inputs",
    "layer_names",
    "neighbour_accuracy",
    "parameter_order",
    "prune",
    "t_sne",
]
