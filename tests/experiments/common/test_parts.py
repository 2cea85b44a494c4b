"""Experiments run others once, each in a process and a folder of its own; one that fails does not stop them."""

import json
import os
import re
import signal
from pathlib import Path

import pytest

from experiments.common.parts import command_without_places, run_parts

SAYS_NO = 'import sys; print("error: no such images", file=sys.stderr); sys.exit(2)'
TELLS_THE_WHOLE_TO_END = """
import os, signal, time
print(os.getpid(), flush=True)
os.kill(os.getppid(), signal.SIGTERM)
time.sleep(99)
"""
DIES = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"


def test_an_experiment_that_was_run_already_is_read_and_not_run_again(tmp_path, stand_in, capfd):
    stand_in("demo", table=[{"loss": 3.0}])
    first = run_parts({"demo": ["--seed", "3"]}, tmp_path)
    stand_in("demo", DIES)
    assert run_parts({"demo": ["--seed", "3"]}, tmp_path) == first
    assert first.records["demo"].results["table"] == [{"loss": 3.0}]
    assert (tmp_path / "demo.txt").read_text() == "its table\n"
    said = capfd.readouterr().err.splitlines()
    assert said[0].startswith("1/1 demo: recorded, ")
    assert said[1] == "1/1 demo: recorded before"


def test_the_result_of_another_command_is_refused_before_anything_runs(tmp_path, stand_in):
    stand_in("demo")
    run_parts({"demo": ["--seed", "3"]}, tmp_path)
    with pytest.raises(ValueError, match="--seed 4\ngive another --output"):
        run_parts({"other": [], "demo": ["--seed", "4"]}, tmp_path)
    assert not (tmp_path / "other.txt").exists()


def test_the_same_command_is_known_by_another_name_of_its_folder(tmp_path, stand_in):
    stand_in("demo")
    assert run_parts({"demo": []}, Path()) == run_parts({"demo": []}, tmp_path)


def test_a_command_is_compared_without_its_folders():
    assert command_without_places("python -m experiments.flow --output a/b --seed 3 --data-dir 'c d'") == (
        "python -m experiments.flow --seed 3"
    )


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (
            {"experiment": "experiments.demo"},
            r"needs to hold a result of other, got one of experiments\.demo; remove it",
        ),
        ({"wall_time_s": None}, r"result\.json is not the record of a run: wall_time_s: None is not .*; remove it"),
        ({"results": {}}, "needs to hold a result of other, got one without failures, table; remove it"),
    ],
)
def test_what_is_not_a_result_of_the_experiment_is_its_reason_and_does_not_stop_the_others(
    damage, reason, tmp_path, stand_in
):
    stand_in("other")
    run_parts({"other": []}, tmp_path)
    path = tmp_path / "other" / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | damage))
    damaged = path.read_bytes()
    stand_in("good")
    records, reasons = run_parts({"other": [], "good": []}, tmp_path)
    assert list(records) == ["good"]
    assert re.search(reason, reasons["other"])
    assert path.read_bytes() == damaged


def test_a_record_without_what_is_told_of_every_run_names_its_folder(tmp_path, stand_in):
    stand_in("demo")
    run_parts({"demo": []}, tmp_path)
    path = tmp_path / "demo" / "result.json"
    entries = json.loads(path.read_text())
    del entries["wall_time_s"]
    path.write_text(json.dumps(entries))
    _, reasons = run_parts({"demo": []}, tmp_path)
    assert reasons == {
        "demo": f"{tmp_path / 'demo'} needs to hold a result of demo, got one without wall_time_s; remove it"
    }


@pytest.mark.parametrize("at_once", [1, 2])
def test_what_leaves_no_record_says_why_and_does_not_stop_the_others(at_once, tmp_path, stand_in):
    stand_in("refused", SAYS_NO)
    stand_in("killed", DIES)
    stand_in("good")
    records, reasons = run_parts({"refused": [], "killed": [], "good": []}, tmp_path, at_once=at_once)
    assert list(records) == ["good"]
    assert reasons == {"refused": "no such images (exit status 2)", "killed": "killed by signal 9"}


def test_nothing_goes_on_when_the_whole_is_told_to_end(tmp_path, stand_in):
    stand_in("long", TELLS_THE_WHOLE_TO_END)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_parts({"long": []}, tmp_path)
    finally:
        signal.signal(signal.SIGTERM, before)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "long.txt").read_text()), 0)
