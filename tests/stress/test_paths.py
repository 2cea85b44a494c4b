"""Folders with spaces and letters of any script, and machines without a display."""

import os
import subprocess
import sys

import pytest

from bnjax.reporting.figures import lines
from bnjax.reporting.records import read_record
from experiments.common.command import main
from experiments.common.options import Options
from tests.stress.checkpoints import restored_epoch, written

NAME = "Läufe 実験 'ε'"


def figures(results: dict, _: dict) -> dict:
    return {"überleben": lines(results["table"], x="order", y="survival", title="Überleben", caption="ε = 0")}


def test_a_run_in_a_folder_of_any_name_is_whole(tmp_path, capsys):
    table = [{"order": order, "survival": 1 / order, "name": "größer"} for order in (1, 2)]
    arguments = ["--output", str(tmp_path / NAME)]
    main(lambda _: {"table": table}, Options, name="experiments.demo", figures=figures, args=arguments)
    names = {"table.csv", "überleben.png", "überleben.svg", "report.html", "result.json"}
    assert {path.name for path in (tmp_path / NAME).iterdir()} == names
    assert read_record(tmp_path / NAME).results["table"] == table
    assert NAME in capsys.readouterr().out


def test_the_command_that_is_named_can_be_pasted(tmp_path, capsys):
    def interrupted(config: Options) -> dict:
        assert config.output is not None
        (config.output / "runs").mkdir()
        raise KeyboardInterrupt

    with pytest.raises(SystemExit, match="130"):
        main(interrupted, Options, name="experiments.demo", args=["--output", str(tmp_path / NAME)])
    complaint = capsys.readouterr().err
    option = complaint.partition("the same command with ")[2].partition(" goes on")[0]
    said = subprocess.run(["sh", "-c", f"printf '%s\\n' {option}"], capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == ["--output", str(tmp_path / NAME)]


def test_checkpoints_in_a_folder_of_any_name_are_read_again(tmp_path):
    assert restored_epoch(written(tmp_path / NAME, 2)) == 2


def test_figures_need_no_display(tmp_path):
    code = f"""
from pathlib import Path
from bnjax.reporting.figures import lines, save
rows = [{{"order": 1, "survival": 0.5}}, {{"order": 2, "survival": 0.25}}]
save({{"figure": lines(rows, x="order", y="survival", title="Survival", caption="")}}, Path({str(tmp_path)!r}))
"""
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    subprocess.run([sys.executable, "-c", code], check=True, env={**environment, "MPLBACKEND": "TkAgg"})
    assert {path.name for path in tmp_path.iterdir()} == {"figure.png", "figure.svg"}
