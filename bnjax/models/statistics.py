"""How do a normalizer's statistics stand in a linen module? As entries of its collection `batch_stats`."""

from collections.abc import Mapping
from typing import Any

from flax import linen as nn


def declare_statistics(module: nn.Module, initial: Mapping[str, Any]) -> None:
    """Declare statistics, in a module that is being initialized."""
    for name, value in initial.items():
        module.variable("batch_stats", name, lambda value=value: value)


def update_statistics(module: nn.Module, updated: Mapping[str, Any]) -> None:
    """Put new statistics where the old ones are, if these are mutable; an initialization leaves what it declared."""
    if module.is_mutable_collection("batch_stats") and not module.is_initializing():
        for name, value in updated.items():
            module.put_variable("batch_stats", name, value)
