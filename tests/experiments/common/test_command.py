"""A run leaves its record, or nothing; every way to end has its own exit status."""

import dataclasses
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from bnjax.reporting.records import read_record
from experiments.common.claim import BLINDNESS, Claim, verdict
from experiments.common.command import main
from experiments.common.options import Options
from tests.experiments.common.small_experiment import Config, call, figures, run

ROOT = Path(__file__).parents[3]


def test_a_run_leaves_its_record_tables_and_figures(tmp_path: Path, capsys):
    call("--output", tmp_path / "new", "--rows", 3, figures=figures)
    names = {path.name for path in (tmp_path / "new").iterdir()}
    assert names == {"result.json", "report.html", "table.csv", "orders.csv", "survival.png", "survival.svg"}
    record = read_record(tmp_path / "new")
    assert record.experiment == "experiments.demo"
    assert record.config == {"seed": 0, "smoke": False, "preset": "default", "devices": 1, "rows": 3}
    assert [row["order"] for row in record.results["table"]] == [1, 2, 3]
    assert record.results["dtype"] == record.provenance["dtype"] == "float64"
    printed = capsys.readouterr().out
    assert "survival" in printed
    assert "0.333" in printed
    assert str(tmp_path / "new") in printed


def test_what_is_found_of_a_claim_is_kept_but_for_a_smoke_run(tmp_path: Path):
    def claims(results: dict, config: dict) -> list[Claim]:
        held = (row["survival"] <= 1 for row in results["table"])
        return [Claim(BLINDNESS, "Fig. 1", "None survives.", "all of it", f"{config['rows']} rows", verdict(held))]

    call("--output", tmp_path / "run", claims=claims)
    assert read_record(tmp_path / "run").results["claims"] == [
        {"paper": "arXiv 2205.15146", "place": "Fig. 1", "claim": "None survives.", "ours": "all of it"}
        | {"n": "64 rows", "verdict": "reproduced"}
    ]
    assert (tmp_path / "run" / "claims.csv").exists()
    call("--output", tmp_path / "smoke", "--smoke", claims=claims)
    assert "claims" not in read_record(tmp_path / "smoke").results


def test_claims_that_fail_do_not_lose_the_results(tmp_path: Path, capsys):
    def claims(*_: dict) -> list[Claim]:
        raise KeyError("no such column")

    with pytest.raises(SystemExit, match="1"):
        call("--output", tmp_path, claims=claims)
    assert "what was found of the claims is missing (KeyError('no such column'))" in capsys.readouterr().err
    assert len(read_record(tmp_path).results["table"]) == 64


@pytest.mark.parametrize(
    ("cases", "expected"),
    [([True, True], "reproduced"), ([True, False], "partly"), ([False], "not reproduced")],
)
def test_a_claim_is_reproduced_where_all_of_its_cases_hold(cases, expected):
    assert verdict(cases) == expected


def test_no_cases_are_no_verdict():
    with pytest.raises(ValueError, match="at least one case"):
        verdict([])


def test_a_run_resumes_whether_its_options_were_preset_or_given(tmp_path: Path):
    preset = dataclasses.replace(Config(), output=tmp_path, preset="paper").paper_sized()
    given = Config(output=tmp_path, rows=5)
    assert preset.checkpoints_of("run") == given.checkpoints_of("run") != Config(output=tmp_path).checkpoints_of("run")


@pytest.fixture
def optimizing():
    """Compile as users do."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.mark.usefixtures("optimizing")
def test_only_a_smoke_run_is_compiled_without_optimization(tmp_path: Path):
    def run(_: Config) -> dict:
        return {"table": [{"optimized": not jax.config.read("jax_disable_most_optimizations")}]}

    for name, option in {"smoke": ["--smoke"], "default": []}.items():
        call("--output", tmp_path / name, *option, run=run)
        assert read_record(tmp_path / name).results["table"] == [{"optimized": name == "default"}]


@pytest.mark.usefixtures("optimizing")
def test_a_smoke_run_that_fails_leaves_the_process_compiling_with_optimization(tmp_path: Path):
    with pytest.raises(SystemExit):
        call("--output", tmp_path, "--smoke", run=lambda _: [].index(0))
    assert not jax.config.read("jax_disable_most_optimizations")


def test_the_default_folder_follows_from_the_config(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call("--smoke")
    (folder,) = (tmp_path / "results" / "demo").iterdir()
    assert (folder / "result.json").is_file()


def test_an_occupied_folder_is_refused_before_anything_is_computed(tmp_path: Path, capsys):
    (tmp_path / "result.json").write_text("mine")
    with pytest.raises(SystemExit, match="2"):
        call("--output", tmp_path, run=lambda _: pytest.fail("computed"))
    assert "already holds" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]
    assert (tmp_path / "result.json").read_text() == "mine"


def test_a_result_that_appears_during_the_run_is_not_overwritten(tmp_path: Path):
    def slow(config: Config) -> dict:
        (tmp_path / "result.json").write_text("mine")
        return run(config)

    with pytest.raises(SystemExit, match="2"):
        call("--output", tmp_path, run=slow)
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]
    assert (tmp_path / "result.json").read_text() == "mine"


def test_a_failed_check_exits_with_1_and_keeps_the_record(tmp_path: Path, capsys):
    with pytest.raises(SystemExit, match="1"):
        call("--output", tmp_path, "--smoke", failures=lambda results: [f"{len(results['table'])} rows"])
    assert read_record(tmp_path).results["failures"] == ["2 rows"]
    assert "failed: 2 rows" in capsys.readouterr().err


def test_checks_that_hold_are_recorded_as_such(tmp_path: Path):
    call("--output", tmp_path, "--smoke", failures=lambda _: [])
    assert read_record(tmp_path).results["failures"] == []


@pytest.mark.parametrize("kind", [ValueError, TypeError, FileNotFoundError, ArithmeticError, MemoryError])
def test_bad_input_exits_with_2_and_one_readable_line(tmp_path: Path, capsys, kind):
    def refusing(_: Config) -> dict:
        raise kind("required 2 rows, got 1")

    with pytest.raises(SystemExit, match="2"):
        call("--output", tmp_path / "new", run=refusing)
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "error: required 2 rows, got 1"
    assert not (tmp_path / "new").exists()


def test_an_error_that_is_not_raised_on_purpose_says_where_it_came_up(tmp_path: Path, capsys):
    with pytest.raises(SystemExit, match="2"):
        call("--output", tmp_path / "new", run=lambda _: int("one"))
    assert "(test_command.py:" in capsys.readouterr().err


def test_a_bad_option_exits_with_2(tmp_path: Path, capsys):
    with pytest.raises(SystemExit, match="2"):
        call("--output", tmp_path, "--rows", 0)
    assert "give at least 1" in capsys.readouterr().err


def test_a_bug_shows_its_traceback_and_leaves_no_empty_folder(tmp_path: Path):
    def broken(_: Config) -> dict:
        raise KeyError("bug")

    with pytest.raises(KeyError, match="bug"):
        call("--output", tmp_path / "new", run=broken)
    assert not (tmp_path / "new").exists()


def test_nan_is_refused_and_nothing_is_written(tmp_path: Path, capsys):
    with pytest.raises(SystemExit, match="2"):
        call("--output", tmp_path / "new", run=lambda _: {"table": [{"survival": jnp.nan}]})
    assert "results.table[0].survival is nan" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("results", [{}, {"table": []}, {"table": [{"row": [1, 2]}]}])
def test_results_without_a_flat_table_are_refused(tmp_path: Path, capsys, results):
    with pytest.raises(SystemExit, match="2"):
        call("--output", tmp_path / "new", run=lambda _: results)
    assert "non-empty list of flat rows" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_drawing_that_fails_does_not_lose_the_results(tmp_path: Path, capsys):
    with pytest.raises(SystemExit, match="1"):
        call("--output", tmp_path, "--smoke", figures=lambda *_: 1 / 0)
    assert len(read_record(tmp_path).results["table"]) == 2
    assert "experiments.redraw" in capsys.readouterr().err


def test_an_interrupted_run_leaves_nothing(tmp_path: Path):
    def interrupted(_: Config) -> dict:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit, match="130"):
        call("--output", tmp_path / "new", run=interrupted)
    assert not (tmp_path / "new").exists()
    with pytest.raises(SystemExit, match="130"):
        call("--output", tmp_path, run=interrupted)
    assert tmp_path.is_dir()


@pytest.mark.usefixtures("children_can_be_interrupted")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_process_interrupted_from_outside_exits_with_130(sent: signal.Signals, tmp_path: Path):
    code = """
import sys, time
from experiments.common.command import main
from experiments.common.options import Options
def run(config):
    print("running", flush=True)
    time.sleep(60)
main(run, Options, name="experiments.demo")
"""
    command = [sys.executable, "-c", code, "--output", str(tmp_path / "new")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        process.send_signal(sent)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors == "interrupted: no result.json was written\n"  # Nothing was trained from which it could go on.
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_written_is_refused_before_the_run(capsys):
    def run(_):
        raise AssertionError("the run has begun")

    with pytest.raises(SystemExit, match="2"):
        main(run, Options, name="experiments.demo", args=["--output", "/proc/self"])
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize("folder", ["experiments", "benchmarks"])
def test_importing_an_experiment_computes_nothing(folder):
    names = [path.stem for path in (ROOT / folder).glob("*.py")]
    modules = [f"{folder}.{name}" for name in names if name != "__init__" and not name.startswith("pytorch")]
    code = (
        f"import jax, {', '.join(modules)}\njax.config.update('jax_num_cpu_devices', 3)\nassert len(jax.devices()) == 3"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
