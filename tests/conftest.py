"""Settings of the whole test run: float64, and the same hypothesis examples every time."""

import jax
from hypothesis import HealthCheck, settings

jax.config.update("jax_enable_x64", True)

settings.register_profile(
    "bnjax",
    deadline=None,  # The first example of a shape compiles.
    derandomize=True,
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("bnjax")
