"""Which features vary over a batch? The others are dead: they have no unit and no standardized values."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

# A feature whose deviation over the batch is below this share of the largest is dead.
DEAD = 1e-6


def live_features(deviations: Float[Array | np.ndarray, "... features"]) -> Bool[Array, "... features"]:
    """Return which features are alive, by their standard deviations over a batch; none is if all are constant."""
    of_batch = jnp.asarray(deviations)
    return of_batch > DEAD * jnp.max(of_batch, axis=-1, keepdims=True)
