"""Experiments run others once, each in a process and a folder of its own; one that fails does not stop them."""

import os
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


def test_what_is_not_a_result_of_the_experiment_is_refused(tmp_path, stand_in):
    stand_in("demo")
    run_parts({"demo": []}, tmp_path)
    (tmp_path / "demo").rename(tmp_path / "other")
    with pytest.raises(ValueError, match=r"needs to hold a result of other, got one of experiments\.demo; remove it"):
        run_parts({"other": []}, tmp_path)
    (tmp_path / "other" / "result.json").write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"result\.json is not the record of a run: .*; remove it"):
        run_parts({"other": []}, tmp_path)


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
