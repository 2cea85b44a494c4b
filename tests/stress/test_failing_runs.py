"""A run that fails at any moment ends clearly, leaves no half of a file, and can be made again in the same folder."""

import csv
import errno
import itertools
import os
import tempfile
from pathlib import Path

import pytest

from bnjax.reporting.records import read_record
from experiments.common.command import main
from experiments.common.options import Options
from tests.stress.faults import fault

TABLE = [{"order": order, "survival": 1 / order} for order in range(1, 4)]


def call(folder: Path, run=lambda _: {"table": TABLE}, **options) -> int:
    """Return the exit status of a run."""
    try:
        main(run, Options, name="experiments.demo", args=["--output", str(folder)], **options)
    except SystemExit as ended:
        return int(str(ended.code))
    return 0


def has_record(folder: Path) -> bool:
    """Return whether there is a record; it is whole then, and its table is beside it."""
    if not (folder / "result.json").exists():
        return False
    assert read_record(folder).results["table"] == TABLE
    with (folder / "table.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(TABLE)
    return True


def full_disk() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Move the folder for temporary files, and return it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere").mkdir()
    return tmp_path / "elsewhere"


@pytest.mark.parametrize(("error", "statuses"), [(KeyboardInterrupt, {130}), (full_disk, {0, 1, 2})])
def test_wherever_it_fails_the_folder_holds_a_whole_record_or_none(error, statuses, tmp_path, capsys):
    for number in itertools.count(1):
        folder = tmp_path / str(number)
        with fault(folder, number, error()) as one:
            status = call(folder)
        said = capsys.readouterr().err
        if one.left:
            break
        assert status in statuses
        assert (status == 0) == (said == "")  # Of what a finished run takes away, some may stay.
        assert said.startswith(("", "interrupted: ", "error: ", "failed: ")[bool(status) :])
        assert "Traceback" not in said
        if not has_record(folder):
            assert call(folder) == 0
            assert has_record(folder)
    assert number > 15


def test_a_disk_that_is_full_at_the_end_does_not_lose_the_results(tmp_path, elsewhere, capsys, monkeypatch):
    def no_room(*_):
        raise full_disk()

    monkeypatch.setattr("experiments.common.folder.write_tables", no_room)
    assert call(tmp_path / "run") == 2
    (kept,) = elsewhere.iterdir()
    assert f"No space left on device; the results are kept in {kept}" in capsys.readouterr().err
    assert read_record(kept).results["table"] == TABLE
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_written_is_refused_before_the_run(tmp_path, capsys):
    with fault(tmp_path, 1, OSError(errno.EROFS, os.strerror(errno.EROFS))):
        assert call(tmp_path / "run", run=lambda _: pytest.fail("computed")) == 2
    expected = f"error: {tmp_path / 'run'} can't be written: Read-only file system; give another folder, by --output\n"
    assert capsys.readouterr().err == expected


def test_an_interruption_after_the_record_says_that_it_is_there(tmp_path, capsys):
    def interrupted(_):
        raise KeyboardInterrupt

    assert call(tmp_path, summary=interrupted) == 130
    assert has_record(tmp_path)
    assert "holds its result.json" in capsys.readouterr().err
