"""A question that was asked before is not compiled anew."""

import sys
from contextlib import contextmanager

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

import bnjax
from bnjax.normalizers import batch_norm, layer_norm
from tests.derivatives.cases import FIRST, HEADS, ROWS, features, labels


@contextmanager
def compilations():
    events = []

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        if event.endswith("backend_compile_duration"):
            events.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield events
    jax.monitoring.unregister_event_duration_listener(listen)


def test_the_same_question_of_another_batch_compiles_nothing():
    ask = lambda seed: bnjax.blocking(HEADS["tanh"], batch_norm(), features(ROWS, seed=seed), labels(6))  # noqa: E731
    with compilations() as first:
        bnjax.blocking(lambda row: jnp.sum(row**2), batch_norm(), features(ROWS))
    assert first
    ask(0)
    with compilations() as again:
        ask(1)
    assert not again


def test_another_normalizer_does_not_compile_the_head_anew():
    def ask(normalizer):
        return bnjax.blocking(HEADS["tanh"], normalizer, features(ROWS), labels(6))

    compiled = sys.modules["bnjax.blocking"]._terms
    ask(batch_norm())
    before = compiled._cache_size()
    ask(layer_norm())
    assert compiled._cache_size() == before


def linear_logits(weights, row):
    return jax.nn.relu(row @ weights) @ weights.T[:, :3]


def test_new_weights_in_a_partial_compile_nothing():
    def ask(weights):
        head = bnjax.cross_entropy_head(Partial(linear_logits, weights))
        return bnjax.blocking(head, batch_norm(), features(ROWS), labels(6)).loss

    first, second = FIRST[:4], FIRST[4:8]
    before = ask(first)
    with compilations() as events:
        after = ask(second)
    assert not events
    assert abs(before - after) > 1e-3
