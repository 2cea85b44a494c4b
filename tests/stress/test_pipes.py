"""Nobody reads on, as with `| head`: the output ends without an error, and a run keeps its record."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

import pytest

from experiments.common.command import main
from experiments.common.options import Options
from experiments.common.pipes import while_somebody_reads


@contextmanager
def closed_pipe() -> Iterator[None]:
    """Print to a standard output that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as stream, redirect_stdout(stream):
        yield


def call(*args: object) -> None:
    table = [{"order": order} for order in range(300)]
    main(lambda _: {"table": table}, Options, name="experiments.demo", args=[str(arg) for arg in args])


def test_help_that_nobody_reads_exits_with_0():
    with pytest.raises(SystemExit) as ended, closed_pipe():
        call("--help")
    assert ended.value.code == 0


def test_a_run_whose_table_nobody_reads_keeps_its_record(tmp_path):
    with closed_pipe():
        call("--output", tmp_path)
        print("goes nowhere", flush=True)
        (tmp_path / "went on").touch()
    assert (tmp_path / "result.json").is_file()
    assert (tmp_path / "went on").exists()


def test_what_does_not_end_by_the_pipe_is_passed_on():
    with pytest.raises(SystemExit, match="2"), closed_pipe(), while_somebody_reads():
        raise SystemExit(2)
