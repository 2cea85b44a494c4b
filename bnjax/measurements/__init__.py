"""What can be read off a network: its layers in the order of their application, and its features."""

from bnjax.measurements.features import last_layer_inputs, neighbour_accuracy, t_sne
from bnjax.measurements.layers import AppliedLayer, applied_layers, layer_names

__all__ = ["AppliedLayer", "applied_layers", "last_layer_inputs", "layer_names", "neighbour_accuracy", "t_sne"]
