"""How likely does a step of SGD move a scale γ into the dead region? Two bounds, and noise that tells them apart.

A step γ - η G with a gradient G of mean ḡ and variance v crosses 0 where the noise Z = (G - ḡ) / √v, of mean 0 and
variance 1, is at least the distance t = (γ / η - ḡ) / √v. Everything here is a function of t (docs/theory.md, F2).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm
from jaxtyping import Array, ArrayLike, Float


class Noise(NamedTuple):
    """A kind of noise of mean 0 and variance 1.

    Attributes:
        sample: `(key, shape, t) -> Z`; only the extremal noise is another one at every distance t.
        tail: `t -> P(Z ≥ t)` for t > 0, in closed form.
    """

    sample: Callable[[Array, tuple[int, ...], Array], Array]
    tail: Callable[[Array], Array]


def distance(scale: ArrayLike, rate: ArrayLike, mean: ArrayLike = 0.0, deviation: ArrayLike = 1.0) -> Array:
    """Return `t = (γ / η - ḡ) / √v`, how many deviations of the gradient lie between the next step and the border.

    Args:
        scale: γ > 0.
        rate: the learning rate η > 0.
        mean: ḡ.
        deviation: √v > 0.
    """
    return (jnp.asarray(scale) / rate - mean) / deviation


def chebyshev_bound(t: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """Return `min(1, 1 / t²) ≥ P(Z ≥ t)` for t > 0, and 1 for t ≤ 0: the bound of arXiv 2001.11216."""
    return jnp.where(t > 1, 1 / jnp.where(t > 1, t, 1) ** 2, 1.0)


def cantelli_bound(t: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """Return `1 / (1 + t²) ≥ P(Z ≥ t)` for t > 0, and 1 for t ≤ 0: (53), the best that there is."""
    return 1 / (1 + jnp.maximum(t, 0.0) ** 2)


def two_point_noise() -> Noise:
    """Return the noise that attains Cantelli's bound: t with probability 1 / (1 + t²), and else -1 / t."""

    def sample(key: Array, shape: tuple[int, ...], t: Array) -> Array:
        # What is to be reached is reached in spite of rounding.
        reached = t * (1 + 8 * jnp.finfo(jnp.result_type(t, float)).eps)
        return jnp.where(jax.random.bernoulli(key, cantelli_bound(reached), shape), reached, -1 / reached)

    return Noise(sample, cantelli_bound)


def pareto_noise(index: float) -> Noise:
    """Return symmetric noise of a power law's tail: `P(|Z| ≥ z) = (s z)^-index` for s z ≥ 1, s² = index / (index - 2).

    Raises:
        ValueError: an index of at most 2, of which there is no variance.
    """
    if not index > 2:
        raise ValueError(f"noise of finite variance needs an index above 2, got {index:g}")
    unit = (index / (index - 2)) ** 0.5

    def sample(key: Array, shape: tuple[int, ...], t: Array) -> Array:
        # Of one uniform number in (-1, 1) the size is the probability of going further, the sign that of the noise.
        uniform = jax.random.uniform(key, shape, jnp.result_type(t), -1.0, 1.0)
        further = jnp.maximum(jnp.abs(uniform), jnp.finfo(uniform.dtype).tiny)
        return jnp.sign(uniform) * further ** (-1 / index) / unit

    def tail(t: Array) -> Array:
        return 0.5 * jnp.maximum(unit * t, 1.0) ** -index

    return Noise(sample, tail)


def gaussian_noise() -> Noise:
    """Return standard normal noise, whose tail falls faster than any power."""

    def sample(key: Array, shape: tuple[int, ...], t: Array) -> Array:
        return jax.random.normal(key, shape, jnp.result_type(t))

    return Noise(sample, norm.sf)
