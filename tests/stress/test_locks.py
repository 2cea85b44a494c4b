"""One run at a time writes into a folder; one that was killed holds nothing."""

import subprocess
import sys

import pytest

from bnjax.reporting.locks import alone_in
from experiments.common.command import main
from experiments.common.options import Options

TABLE = {"table": [{"order": 1}]}


def test_a_second_run_into_a_folder_is_refused_at_once_and_the_first_goes_on(tmp_path, capsys):
    arguments = ["--output", str(tmp_path)]

    def first(_: Options) -> dict:
        with pytest.raises(SystemExit, match="2"):
            main(lambda _: pytest.fail("computed"), Options, name="experiments.demo", args=arguments)
        return TABLE

    main(first, Options, name="experiments.demo", args=arguments)
    assert f"error: {tmp_path} is being written by another run; wait until that ends" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"table.csv", "report.html", "result.json"}


def test_a_lock_that_a_killed_run_left_holds_nobody(tmp_path):
    code = f"""
import time
from pathlib import Path
from bnjax.reporting.locks import alone_in
with alone_in(Path({str(tmp_path)!r})):
    print("held", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError, match="another run"), alone_in(tmp_path):
            pass
        process.kill()
    assert (tmp_path / ".lock").exists()
    with alone_in(tmp_path):
        pass
    assert not list(tmp_path.iterdir())
