"""Settings of the whole test run: float64, the same hypothesis examples every time, and what runs beside what."""

import os

# Four fifths of the time are compilation; processes that tests start compile alike. JAX_DISABLE_MOST_OPTIMIZATIONS=0
# tests the programs that users run, as .ci/run does with the core.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import jax
import pytest
from hypothesis import HealthCheck, settings

jax.config.update("jax_enable_x64", True)
# Where a plugin has imported JAX before.
jax.config.update("jax_disable_most_optimizations", os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] != "0")

settings.register_profile(
    "bnjax",
    deadline=None,  # The first example of a shape compiles.
    derandomize=True,
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("bnjax")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a file in one process, for its compiled functions; what asks for its own goes first."""
    items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))
