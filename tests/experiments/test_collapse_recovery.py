"""Filters that were lost are followed one by one after the change."""

import numpy as np
import pytest

from experiments import collapse_recovery


def test_what_is_alive_again_is_counted_among_the_lost_alone():
    lost = np.array([True, True, True, False, False])
    dead = np.array([True, False, True, True, False])
    found = collapse_recovery._compared(lost, dead)
    assert found["collapsed"] == pytest.approx(3 / 5)
    assert found["recovered"] == pytest.approx(1 / 3)
    assert not found["reason"]


def test_where_nothing_was_lost_there_is_no_share_but_a_reason():
    found = collapse_recovery._compared(np.zeros(3, bool), np.array([True, False, False]))
    assert found["recovered"] is None
    assert "larger --collapsing-rate" in found["reason"]
    assert collapse_recovery.failures({"networks": [{"seed": 4, "collapsed": 0}]}) == ["seed 4: no filter was lost"]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    config = collapse_recovery.Config(
        model="mlp",
        collapsing_rate=20.0,
        epochs=1,
        stretch=8,
        seeds=1,
        train_images=200,
        test_images=100,
        output=tmp_path_factory.mktemp("recovery"),
    )
    return collapse_recovery.run(config)


def test_with_batch_normalization_nothing_has_changed_at_step_0(results):
    start = {row["normalizer"]: row for row in results["runs"] if row["step"] == 0}
    network = results["networks"][0]
    assert start["batch_norm"]["recovered"] == 0
    assert start["batch_norm"]["collapsed"] == pytest.approx(network["collapsed"] / network["filters"])
    assert 0 < network["collapsed"] < network["filters"]


def test_the_shift_alone_brings_some_back_and_kills_none_of_the_first_layer(results):
    start = {row["normalizer"]: row for row in results["runs"] if row["step"] == 0}
    assert start["post_shifted_batch_norm"]["recovered"] >= start["batch_norm"]["recovered"]
    assert {row["step"] for row in results["table"]} == {0, 8}


def test_where_nothing_was_lost_nothing_is_compared():
    config = collapse_recovery.Config(epochs=1, stretch=1, seeds=1)
    lost_nothing = collapse_recovery._compared(np.zeros(2, bool), np.zeros(2, bool))
    rows = [{"normalizer": name, "seed": 0, "step": 1, **lost_nothing} for name in collapse_recovery.COMPARED]
    for row in collapse_recovery._tests(rows, config):
        assert row["found"] == "not tested"
        assert row["reason"] == collapse_recovery.NONE_LOST
