"""A record that is damaged, or of an earlier version, is named, with what to do."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnjax.reporting.records import Record, read_record, write_record
from experiments import redraw

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def read_again(directory: Path, contents: bytes) -> None:
    """Read a file as a record: it is one, or the refusal names it."""
    (directory / "result.json").write_bytes(contents)
    try:
        record = read_record(directory)
    except ValueError as error:
        complaint = str(error)
    else:
        assert all(isinstance(part, dict) for part in (record.config, record.provenance, record.results))
        return
    assert re.match(rf"{directory}/result.json is not the record of a run: ", complaint)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    results = {"table": [{"order": 1, "survival": 0.5}], "failures": []}
    write_record(folder, Record("experiments.polynomial_orders", {"smoke": True}, {"seed": 0}, results))
    return folder


def test_a_record_that_ends_early_is_named_wherever_it_ends(folder):
    whole = (folder / "result.json").read_bytes()
    for length in range(len(whole) - 2):  # Without its last line break it is whole.
        (folder / "result.json").write_bytes(whole[:length])
        with pytest.raises(ValueError, match="is not the record of a run"):
            read_record(folder)
    (folder / "result.json").write_bytes(whole)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(("experiment", "config", "results", "seed"), JSON)) | JSON)
def test_whatever_stands_in_the_file_is_a_record_or_named(tmp_path_factory, entries):
    read_again(tmp_path_factory.mktemp("any"), json.dumps(entries).encode())


@given(st.binary(max_size=20))
def test_a_file_that_is_no_text_is_named(tmp_path_factory, contents):
    read_again(tmp_path_factory.mktemp("bytes"), contents)


def test_a_file_nested_without_end_is_named(tmp_path):
    read_again(tmp_path, b"[" * 100_000)


def test_a_record_of_an_earlier_version_says_what_it_lacks_and_what_to_do(folder, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        redraw.main(folder, tmp_path)
    (complaint,) = capsys.readouterr().err.splitlines()
    assert re.match(r"error: .* lacks what is drawn of experiments.polynomial_orders today \(KeyError", complaint)
    assert "run it again" in complaint
