"""What is a normalizer? A few pure functions: a standardization, an affine phase after it, and their state.

Every normalizer of the library is one `standardize` function, handed to `build_normalizer`.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, ParamSpec, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from bnjax.integers import is_integer
from bnjax.normalizers.checks import (
    check_features,
    check_numbers,
    check_squares,
    check_varies,
    first_true,
    is_concrete,
)
from bnjax.normalizers.moments import Moments, statistics_dtype

Mode = Literal["batch", "running"]
Params = dict[str, Array]
Stats = dict[str, Array]

P = ParamSpec("P")


class Standardized(NamedTuple):
    """The standardized features and what they were divided by.

    Attributes:
        values: `ŷ`, in the shape of `x`.
        scale: the `s` of `ŷ = (x - μ) / s`; it broadcasts against `x`.
    """

    values: Float[Array, "rows ..."]
    scale: Float[Array, "..."]


class Affine(NamedTuple):
    """The affine phase `y = slope · ŷ + offset`; both broadcast to `ŷ`, axis 0 has length 1 or one entry a row."""

    slope: Float[Array, "..."]
    offset: Float[Array, "..."]


@runtime_checkable
class Standardize(Protocol):
    """`(stats, x, *, mode, key) -> (Standardized, stats)`."""

    def __call__(self, stats: Stats, x: Array, /, *, mode: Mode, key: Array | None) -> tuple[Standardized, Stats]:
        """Standardize `x` and return the statistics for the next call."""
        ...


class AffinePhase(NamedTuple):
    """The learned part of a normalizer.

    Attributes:
        init: `init(x) -> params`, the initial parameters.
        evaluate: `evaluate(params, x, *, mode, key) -> Affine`, the map that they stand for.
    """

    init: Callable[[Array], Params]
    evaluate: Callable[..., Affine]


class Normalizer(NamedTuple):
    """A normalizer as pure functions over explicit state.

    Attributes:
        name: its name in tables and figures.
        feature_axis: the axis of `x` that holds the features (channels); axis 0 holds the rows (samples).
        init: `init(x) -> (params, stats)`; parameters (`scale`, `bias`) and batch statistics to start from.
        apply: `apply(params, stats, x, *, mode="batch", key=None) -> (y, stats)`, the whole normalizer.
            `mode="batch"` uses the statistics of `x` and updates the running ones, `"running"` uses the running ones.
            `init` needs no more than the shape of `x`, unless its docstring says so.
        standardize: `standardize(stats, x, *, mode, key) -> (Standardized, stats)`, the phase before the affine one.
        affine: `affine(params, x, *, mode, key) -> Affine`, the phase after it, as slope and offset.
        check: `check(x)` raises on input that the normalizer can't take statistics of; `apply` calls it where it does.
            Values that are being traced (under `jax.jit`, `jax.grad`, …) can't be looked at; shapes are checked always.
        settings: the options that it was made with and that are not the usual ones, as text such as `epsilon=0.001`.
    """

    name: str
    feature_axis: int
    init: Callable[[ArrayLike], tuple[Params, Stats]]
    apply: Callable[..., tuple[Array, Stats]]
    standardize: Standardize
    affine: Callable[..., Affine]
    check: Callable[[ArrayLike], None]
    settings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Return the name and the settings, by which runs are told apart."""
        return f"<normalizer {', '.join((self.name, *self.settings))}>"


def build_normalizer(
    name: str,
    standardize: Standardize,
    *,
    feature_axis: int,
    epsilon: float,
    affine: AffinePhase,
    initial_stats: Callable[[Array], Stats] = lambda _: {},
    uses_input: bool = True,
    check: Callable[[Array], None] = lambda _: None,
) -> Normalizer:
    """Assemble a `Normalizer` from its `standardize` function.

    Args:
        name: the name in tables and figures.
        standardize: the one function that makes this normalizer what it is.
        feature_axis: the axis of the features; not 0, which holds the rows.
        epsilon: what `standardize` adds to the variance, ≥ 0.
        affine: the affine phase, `learned_affine(...)` as a rule.
        initial_stats: the statistics that `init` starts from; none means that both modes are the same.
        uses_input: whether `standardize` divides by a spread of `x`. If so, features that do not vary are refused at
            `epsilon=0`.
        check: what else to require of `x` in batch mode; called after the checks that all normalizers share.

    Raises:
        ValueError: `epsilon` is negative or not finite.
    """
    if not is_integer(feature_axis):
        raise TypeError(f"{name} needs an integer feature_axis, got {feature_axis!r}")
    if not isinstance(epsilon, int | float) or not 0 <= epsilon < float("inf"):
        raise ValueError(f"{name} needs a finite epsilon >= 0, got {epsilon!r}")

    def check_shared(x: Array) -> None:
        # Also the constants of a function that is being traced are looked at, not traced.
        with jax.ensure_compile_time_eval():
            check_features(x, feature_axis, name)

    @jax.jit
    def first_still(x: Array) -> Array:
        def standardize_alone(x: Array) -> Standardized:
            return standardize(initial_stats(x), x, mode="batch", key=None)[0]

        values, scale = standardize_alone(x)
        # A constant group's computed deviation is its mean's rounding error, not 0. Centred twice, it is (almost) gone.
        still = ~(standardize_alone(values * scale).scale > scale / 2)
        # Below this the squares lose digits.
        limits = jnp.finfo(scale.dtype)
        return first_true(jnp.broadcast_to(still | (scale < jnp.sqrt(limits.tiny / limits.eps)), x.shape))

    def check_input(x: ArrayLike) -> None:
        x = jnp.asarray(x)
        check_shared(x)
        with jax.ensure_compile_time_eval():
            check(x)
            if uses_input and is_concrete(x):
                check_squares(x, name)
            if uses_input and epsilon == 0 and is_concrete(x):
                check_varies(int(first_still(x)), x.shape, name)

    def init(x: ArrayLike) -> tuple[Params, Stats]:
        x = jnp.asarray(x)
        check_shared(x)
        return affine.init(x), initial_stats(x)

    def apply(
        params: Params, stats: Stats, x: ArrayLike, *, mode: str = "batch", key: Array | None = None
    ) -> tuple[Array, Stats]:
        if mode not in ("batch", "running"):
            raise ValueError(f"{name} needs mode='batch' or mode='running', got {mode!r}")
        x = jnp.asarray(x)
        if mode == "running" and stats:
            check_shared(x)
        else:
            check_input(x)
        standardized, stats = standardize(stats, x, mode=mode, key=key)
        slope, offset = affine.evaluate(params, x, mode=mode, key=key)
        return (slope * standardized.values + offset).astype(x.dtype), stats

    return Normalizer(name, feature_axis, init, apply, standardize, affine.evaluate, check_input)


def memoized(factory: Callable[P, Normalizer]) -> Callable[P, Normalizer]:
    """Let equal arguments give the same normalizer, so that a function compiled for it is compiled once."""
    signature = inspect.signature(factory)
    parameters = signature.parameters

    @functools.lru_cache(maxsize=None, typed=True)  # True and 1.0 are equal to 1, but no feature axes.
    def cached(**options: Any) -> Normalizer:
        settings = tuple(f"{name}={value!r}" for name, value in options.items() if value != parameters[name].default)
        make: Callable[..., Normalizer] = factory
        return make(**options)._replace(settings=settings)

    @functools.wraps(factory)
    def same(*args: P.args, **kwargs: P.kwargs) -> Normalizer:
        try:
            arguments = signature.bind(*args, **kwargs)
        except TypeError as error:
            options = ", ".join(f"{name}=" for name in parameters)
            raise TypeError(f"{factory.__name__}() takes the keywords {options}: {error}") from None
        arguments.apply_defaults()
        given = {name: _plain(value, parameters[name].annotation) for name, value in arguments.arguments.items()}
        check_numbers({name: given[name] for name in given if parameters[name].annotation is float}, factory.__name__)
        return cached(**given)

    return same


def _plain(option: Any, declared: Any) -> Any:
    """Return Python's own number for one of NumPy's or JAX's, a float where one is declared: equal options are one."""
    if isinstance(option, np.generic | np.ndarray | Array) and np.ndim(option) == 0:
        option = option.item()
    return float(option) if declared is float and is_integer(option) else option


def without_statistics(standardize_rows: Callable[[Array], Standardized]) -> Standardize:
    """Return the `standardize` function of a normalizer that keeps no statistics and knows no modes."""

    def standardize(stats: Stats, x: Array, /, *, mode: Mode, key: Array | None) -> tuple[Standardized, Stats]:
        del mode, key
        return standardize_rows(x), stats

    return standardize


def divide_by_deviation(x: Array, moments: Moments, epsilon: float) -> Standardized:
    """Return `ŷ = (x - mean) / √(variance + epsilon)` and that root (docs/theory.md, setting)."""
    scale = jnp.sqrt(moments.variance + epsilon)
    return Standardized((x - moments.mean) / scale, scale)


def learned_affine(*, feature_axis: int, learned: bool = True, shift: float = 0.0) -> AffinePhase:
    """Return the affine phase `scale · ŷ + bias + shift`, one `scale` and `bias` a feature; `shift` is constant.

    With `learned=False` there are no parameters and the phase is `ŷ + shift`.
    """

    def init(x: Array) -> Params:
        if not learned:
            return {}
        shape, dtype = (x.shape[feature_axis],), statistics_dtype(x.dtype)
        return {"scale": jnp.ones(shape, dtype), "bias": jnp.zeros(shape, dtype)}

    def evaluate(params: Params, x: Array, *, mode: Mode, key: Array | None) -> Affine:
        del mode, key
        if not learned:
            one = jnp.ones((1,) * x.ndim, statistics_dtype(x.dtype))
            return Affine(one, shift * one)
        scale, bias = (along_features(params, name, x, feature_axis) for name in ("scale", "bias"))
        return Affine(scale, bias + shift)

    return AffinePhase(init, evaluate)


def entry(state: Params | Stats, name: str, features: int) -> Float[Array, " features"]:
    """Return `state[name]`, which must hold one number for each of the features."""
    if name not in state or jnp.shape(state[name]) != (features,):
        got = f"shape {jnp.shape(state[name])}" if name in state else f"only the entries {sorted(state)}"
        raise ValueError(
            f"params or stats need an entry '{name}' with one number for each of the {features} features of x, got "
            f"{got}; call init(x) on input of this shape"
        )
    return jnp.asarray(state[name])


def along_features(state: Params | Stats, name: str, x: Array, feature_axis: int) -> Array:
    """Return `state[name]` in a shape that broadcasts against `x`."""
    shape = [1] * x.ndim
    shape[feature_axis] = x.shape[feature_axis]
    return entry(state, name, x.shape[feature_axis]).reshape(shape)
