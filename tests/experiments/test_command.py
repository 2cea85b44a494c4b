import dataclasses
import json
import signal
import subprocess
import sys
import types
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from bnjax.reporting.figures import lines
from bnjax.reporting.records import read_record
from experiments import redraw
from experiments.claims import BLINDNESS, Claim, verdict
from experiments.command import main
from experiments.options import Options

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Config(Options):
    """An experiment for the tests."""

    rows: int = 64
    """How many rows there are."""

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise ValueError(f"rows is {self.rows}; give at least 1")
        super().__post_init__()

    def smoke_sized(self) -> "Config":
        return dataclasses.replace(self, rows=2)

    def paper_sized(self) -> "Config":
        return dataclasses.replace(self, rows=5)


def run(config: Config) -> dict:
    table = [{"order": order, "survival": jnp.ones(()) / order} for order in range(1, config.rows + 1)]
    return {"table": table, "orders": [{"order": 1}], "matrix": jnp.eye(2), "dtype": str(jnp.ones(()).dtype)}


def figures(results: dict, config: dict) -> dict:
    caption = f"{config['rows']} rows"
    return {"survival": lines(results["table"], x="order", y="survival", title="Survival", caption=caption)}


def call(*args: object, run=run, **options) -> None:
    main(run, Config, name="experiments.demo", args=[str(arg) for arg in args], **options)


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


@pytest.mark.parametrize(
    ("cases", "expected"),
    [([True, True], "reproduced"), ([True, False], "partly"), ([False], "not reproduced")],
)
def test_a_claim_is_reproduced_where_all_of_its_cases_hold(cases, expected):
    assert verdict(cases) == expected


def test_no_cases_are_no_verdict():
    with pytest.raises(ValueError, match="at least one case"):
        verdict([])


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


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_process_interrupted_from_outside_exits_with_130(sent: signal.Signals, tmp_path: Path):
    code = """
import sys, time
from experiments.command import main
from experiments.options import Options
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


def test_redrawing_gives_the_same_figures_from_the_record_alone(tmp_path: Path, monkeypatch, capsys):
    module = types.ModuleType("experiments.demo")
    module.figures = figures  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "experiments.demo", module)
    call("--output", tmp_path, "--smoke", figures=figures)
    redraw.main(tmp_path, tmp_path / "again")
    for name in ("survival.png", "survival.svg"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / name).read_bytes()
    assert "survival.png" in capsys.readouterr().out


@pytest.mark.parametrize(("experiment", "message"), [("os.path", "no experiment"), ("experiments.absent", "No module")])
def test_redrawing_refuses_what_is_no_experiment(tmp_path: Path, capsys, experiment, message):
    entries = {"experiment": experiment, "config": {}, "results": {}}
    (tmp_path / "result.json").write_text(json.dumps(entries))
    with pytest.raises(SystemExit, match="2"):
        redraw.main(tmp_path)
    assert message in capsys.readouterr().err


def test_redrawing_an_empty_folder_says_what_is_missing(tmp_path: Path, capsys):
    with pytest.raises(SystemExit, match="2"):
        redraw.main(tmp_path)
    assert "no result.json" in capsys.readouterr().err


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
