"""Which options fit together, and what is said of those that do not."""

from dataclasses import dataclass
from pathlib import Path

import jax
import pytest

from bnjax.reporting.records import read_record
from experiments.common.command import main
from experiments.common.options import Options
from tests.experiments.common.small_experiment import call


@dataclass(frozen=True)
class Rates(Options):
    """Options with numbers that are no counts."""

    rates: tuple[float, ...] = (0.1,)
    """Some rates."""
    learning_rates: tuple[float, ...] = (0.1,)
    """Rates that are to be positive."""
    seeds: int = 1
    """Runs."""


@dataclass(frozen=True)
class Expansion(Options):
    """Options with a coordinate."""

    expansion_point: float = 0.5
    """A place on both sides of zero."""


@dataclass(frozen=True)
class Batches(Options):
    """Options with two counts of rows."""

    batch_size: int = 64
    """Rows of one kind."""
    rows: int = 16
    """Rows of another kind."""


@pytest.mark.parametrize("rates", [(), (0.1, 0.1)])
def test_a_list_that_is_empty_or_repeats_a_value_is_refused(rates):
    with pytest.raises(ValueError, match="--rates needs at least one value and none twice"):
        Rates(rates=rates)


@pytest.mark.parametrize("value", ["nan", "inf", "-0.5"])
def test_numbers_that_are_not_finite_or_negative_are_refused_before_anything_is_done(tmp_path: Path, value, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(
            lambda _: {},
            Rates,
            name="experiments.demo",
            args=["--rates", "1.0", value, "--output", str(tmp_path / "x")],
        )
    assert "--rates needs to be finite and not negative" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("typed", [["--expansion-point=-1"], ["--expansion-point", "-1"]], ids=" ".join)
def test_an_expansion_point_may_be_negative(typed, tmp_path: Path):
    main(
        lambda config: {"table": [{"point": config.expansion_point}]},
        Expansion,
        name="experiments.demo",
        args=[*typed, "--output", str(tmp_path)],
    )
    assert read_record(tmp_path).results["table"] == [{"point": -1.0}]


@pytest.mark.parametrize("point", [float("nan"), float("inf"), -float("inf")])
def test_an_expansion_point_that_is_not_finite_is_refused(point):
    with pytest.raises(ValueError, match=f"--expansion-point needs to be finite, got {point}"):
        Expansion(expansion_point=point)


@pytest.mark.parametrize("rates", [(0.0,), (0.1, 0.0)])
def test_a_rate_of_zero_is_refused(rates):
    with pytest.raises(ValueError, match="--learning-rates needs to be positive, got"):
        Rates(learning_rates=rates)


def test_counts_past_all_arrays_are_refused():
    with pytest.raises(ValueError, match=f"--rows needs to be below 2\\*\\*32, got {2**32}"):
        Batches(rows=2**32)


def test_all_counts_that_devices_do_not_divide_are_named_at_once():
    with pytest.raises(
        ValueError, match=r"for --batch-size and --rows, got 64 and 16; take --batch-size 66 --rows 18,"
    ):
        Batches(devices=3)


def test_the_last_of_several_seeds_needs_to_fit():
    with pytest.raises(ValueError, match="got 4294967295 to 4294967296"):
        Rates(seed=2**32 - 1, seeds=2)


def test_smoke_takes_the_small_sizes(tmp_path: Path):
    call("--output", tmp_path, "--smoke")
    assert len(read_record(tmp_path).results["table"]) == 2


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        (["--preset", "paper"], 5),
        (["--preset=paper"], 5),
        (["--preset", "paper", "--rows", 3], 3),
        (["--preset", "default"], 64),
        (["--preset", "paper", "--smoke"], 2),
    ],
    ids=str,
)
def test_a_preset_is_where_the_options_begin(options, rows, tmp_path: Path):
    call("--output", tmp_path, *options)
    assert read_record(tmp_path).config["rows"] == rows


def test_help_shows_the_options_their_meaning_and_their_defaults(capsys):
    with pytest.raises(SystemExit, match="0"):
        call("--help")
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "python -m experiments.demo" in text
    assert "An experiment for the tests." in text
    assert "How many rows there are. (default: 64)" in text
    assert "--output" in text
    assert "--seed" in text
    assert "--smoke" in text
    assert "--no-smoke" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--devices", "3"], "--devices 3 needs a multiple of it for --rows, got 64; take --rows 66"),
        (["--devices", "0"], "--devices needs to be at least 1, got 0"),
        (["--devices", "1000", "--rows", "1000"], f"from 1 to {len(jax.devices())}, which JAX has on cpu"),
    ],
)
def test_devices_that_are_not_there_or_do_not_divide_a_batch_are_refused(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_:
        call(*arguments, "--output", tmp_path / "new")
    assert exit_.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "new").exists()
