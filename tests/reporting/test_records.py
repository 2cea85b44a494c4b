import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from bnjax.reporting import records
from bnjax.reporting.records import (
    Record,
    config_digest,
    default_directory,
    provenance,
    read_record,
    require_free,
    tables_of,
    write_csv,
    write_record,
)


def record_of(results: dict) -> Record:
    return Record("experiments.demo", {"rows": 4}, {"seed": 0}, results)


def test_a_record_read_again_equals_the_one_written(tmp_path: Path):
    record = record_of(
        {
            "table": [{"order": np.int64(2), "survival": jnp.float32(0.5), "holds": np.bool_(True)}],
            "matrix": jnp.eye(2),
            "sizes": (1, 2),
            "folder": Path("results"),
        }
    )
    write_record(tmp_path, record)
    assert read_record(tmp_path) == record
    assert record.results["matrix"] == [[1.0, 0.0], [0.0, 1.0]]


def test_the_file_holds_what_the_contract_names(tmp_path: Path):
    origin = provenance(dtype="float64", seed=3, started=datetime.now(UTC), wall_time_s=1.25)
    write_record(tmp_path, Record("experiments.demo", {"rows": 4}, origin, {"table": [{"order": 1}]}))
    entries = json.loads((tmp_path / "result.json").read_text())
    assert {
        "experiment",
        "config",
        "versions",
        "device",
        "dtype",
        "seed",
        "git_commit",
        "wall_time_s",
        "results",
    } <= set(entries)
    assert {"python", "jax", "jaxlib", "flax", "numpy", "bnjax"} == set(entries["versions"])
    assert entries["seed"] == 3
    assert entries["started"].endswith("+00:00")


@pytest.mark.parametrize("bad", [np.nan, float("inf"), -jnp.inf, jnp.array([1.0, jnp.nan])[1]])
def test_a_number_that_is_not_finite_is_refused_with_its_place(bad):
    with pytest.raises(ValueError, match=re.escape("results.table[1].survival is")):
        record_of({"table": [{"survival": 1.0}, {"survival": bad}]})


def test_a_nan_deep_inside_an_array_is_refused_with_its_place():
    matrix = np.zeros((2, 3))
    matrix[1, 2] = np.nan
    with pytest.raises(ValueError, match=re.escape("results.hessian.before[1][2] is nan")):
        record_of({"hessian": {"before": matrix}})


@pytest.mark.parametrize("reason", [{}, {"reason": None}, {"reason": " "}])
def test_a_null_in_any_table_needs_a_reason_beside_it(reason):
    with pytest.raises(ValueError, match=re.escape("results.spectrum[0].survival is None")):
        record_of({"spectrum": [{"survival": None, **reason}]})


def test_a_null_with_its_reason_is_kept():
    row = {"survival": None, "reason": "the term is zero"}
    assert record_of({"table": [row]}).results["table"] == [row]


@pytest.mark.parametrize("bad", [{1: "one"}, {"call": print}, {"number": 1j}, {"numbers": {1, 2}}])
def test_what_has_no_json_form_is_refused(bad):
    with pytest.raises(TypeError, match="results"):
        record_of(bad)


def test_provenance_may_not_shadow_the_other_parts():
    with pytest.raises(ValueError, match="config"):
        Record("experiments.demo", {}, {"config": 1}, {})


def test_another_runs_result_is_not_overwritten(tmp_path: Path):
    write_record(tmp_path, record_of({"value": 1}))
    with pytest.raises(FileExistsError, match="give another folder"):
        write_record(tmp_path, record_of({"value": 2}))
    assert read_record(tmp_path).results == {"value": 1}


@pytest.mark.parametrize("below", ["", "run"])
def test_a_file_is_no_output_folder_and_holds_none(tmp_path: Path, below):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match=r"needs to be a folder, .*file is a file; give another path"):
        require_free(tmp_path / "file" / below)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, OSError])
def test_an_interruption_in_the_middle_of_a_write_leaves_nothing(tmp_path: Path, monkeypatch, interruption):
    def half_written(_, file, **__):
        file.write('{"experiment": "exper')
        raise interruption

    monkeypatch.setattr(records.json, "dump", half_written)
    with pytest.raises(interruption):
        write_record(tmp_path, record_of({"value": 1}))
    assert not list(tmp_path.iterdir())


def test_a_kill_in_the_middle_of_a_write_leaves_no_result(tmp_path: Path):
    code = f"""
import os, json
from pathlib import Path
from bnjax.reporting import records
records.json.dump = lambda entries, file, **_: (file.write("half"), file.flush(), os._exit(9))
records.write_record(Path({str(tmp_path)!r}), records.Record("experiments.demo", {{}}, {{}}, {{}}))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    assert not (tmp_path / "result.json").exists()


@pytest.mark.parametrize("text", ["", "[1]", '{"config": {}}', '{"experiment": "half'])
def test_a_file_that_is_no_record_is_named(tmp_path: Path, text):
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(ValueError, match="not the record of a run"):
        read_record(tmp_path)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"experiment": 5}, "experiment: 5 is not of type 'string'"),
        ({"config": []}, "config: [] is not of type 'object'"),
        ({"started": 5}, "started: 5 is not of type 'string'"),
        ({"wall_time_s": "long"}, "wall_time_s: 'long' is not of type 'number'"),
        ({"device": {"kind": "cpu"}}, "device: 'platform' is a required property"),
        ({"command": "python 'demo"}, "command: \"python 'demo\" is not a 'command line'"),
        ({"command": 5}, "command: 5 is not of type 'string'"),
        ({"results": {"failures": 3}}, "results.failures: 3 is not of type 'array'"),
        ({"results": {"failures": [3]}}, "results.failures[0]: 3 is not of type 'string'"),
        ({"results": {"notes": "one"}}, "results.notes: 'one' is not of type 'array'"),
        ({"results": {"claims": [{"paper": "", "claim": ""}]}}, "results.claims[0]: 'verdict' is a required property"),
    ],
)
def test_a_record_of_another_shape_is_named_with_the_place_and_what_to_do(tmp_path: Path, entries, message):
    path = write_record(tmp_path, record_of({"value": 1}))
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))
    with pytest.raises(ValueError, match=re.escape(f"{path} is not the record of a run: {message}; remove it")):
        read_record(tmp_path)


def test_a_folder_without_a_record_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="finished run"):
        read_record(tmp_path)


def test_the_digest_depends_on_values_and_not_on_their_order():
    assert config_digest({"a": 1, "b": 2}) == config_digest({"b": 2, "a": 1})
    assert config_digest({"a": 1}) != config_digest({"a": 2})
    assert re.fullmatch("[0-9a-f]{8}", config_digest({}))


def test_the_default_folder_names_the_experiment_the_time_and_the_config():
    folder = default_directory("experiments.demo", {"rows": 4})
    assert re.fullmatch(rf"results/demo/\d{{8}}-\d{{6}}-{config_digest({'rows': 4})}", folder.as_posix())


def test_the_commit_is_null_with_a_reason_outside_a_checkout(tmp_path: Path):
    origin = provenance(dtype="float64", seed=0, started=datetime.now(UTC), wall_time_s=0.0, repository=tmp_path)
    assert origin["git_commit"] is None
    assert "not a git repository" in origin["git_commit_reason"]


def test_only_lists_of_flat_rows_are_tables():
    results = {
        "table": [{"order": 1}],
        "nested": [{"row": [1]}],
        "empty": [],
        "numbers": [1, 2],
        "text": "no",
    }
    assert list(tables_of(results)) == ["table"]


def test_a_csv_has_the_columns_of_all_rows(tmp_path: Path):
    path = write_csv(tmp_path / "table.csv", [{"term": "a,b", "survival": 0.1}, {"term": "c", "reason": "zero"}])
    assert path.read_text() == 'term,survival,reason\n"a,b",0.1,\nc,,zero\n'
    assert list(tmp_path.iterdir()) == [path]


def test_importing_the_records_is_cheap():
    code = "import sys, bnjax.reporting; print({'rich', 'matplotlib'} & set(sys.modules) or 'cheap')"
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert output == "cheap\n"
