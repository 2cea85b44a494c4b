"""Figures are drawn again from the record alone."""

import json
import sys
import types
from pathlib import Path

import pytest

from experiments import redraw
from experiments.common.claim import BLINDNESS, Claim, verdict
from tests.experiments.common.small_experiment import call, figures


def test_redrawing_gives_the_same_figures_from_the_record_alone(tmp_path: Path, monkeypatch, capsys):
    module = types.ModuleType("experiments.demo")
    module.figures = figures  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "experiments.demo", module)
    call("--output", tmp_path, "--smoke", figures=figures)
    redraw.main(tmp_path, tmp_path / "again")
    for name in ("survival.png", "survival.svg"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / name).read_bytes()
    assert "survival.png" in capsys.readouterr().out


def test_redrawing_finds_the_claims_anew(tmp_path: Path, monkeypatch):
    def claims_of(n: str):
        return lambda *_: [Claim(BLINDNESS, "Fig. 1", "None survives.", "all of it", n, "partly")]

    module = types.ModuleType("experiments.demo")
    module.claims = claims_of("told anew")  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "experiments.demo", module)
    call("--output", tmp_path, claims=claims_of("told first"))
    redraw.main(tmp_path, tmp_path / "again")
    for folder, told in ((tmp_path, "told first"), (tmp_path / "again", "told anew")):
        assert told in (folder / "claims.csv").read_text()
        assert told in (folder / "report.html").read_text()


@pytest.mark.parametrize(
    ("experiment", "message"),
    [("os.path", "no experiment"), ("experiments.absent", "No module"), (5, "experiment: 5 is not of type 'string'")],
)
def test_redrawing_refuses_what_is_no_experiment(tmp_path: Path, capsys, experiment, message):
    entries = {"experiment": experiment, "config": {}, "results": {}}
    (tmp_path / "result.json").write_text(json.dumps(entries))
    with pytest.raises(SystemExit, match="2"):
        redraw.main(tmp_path)
    assert message in capsys.readouterr().err


def test_redrawing_names_the_record_that_gives_todays_rules_no_case(tmp_path: Path, monkeypatch, capsys):
    module = types.ModuleType("experiments.demo")
    module.claims = lambda *_: verdict([])  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "experiments.demo", module)
    entries = {"experiment": "experiments.demo", "config": {}, "results": {"table": [{"order": 1}]}}
    (tmp_path / "result.json").write_text(json.dumps(entries))
    with pytest.raises(SystemExit, match="2"):
        redraw.main(tmp_path)
    assert f"error: {tmp_path} lacks what is drawn of experiments.demo today" in capsys.readouterr().err


def test_redrawing_an_empty_folder_says_what_is_missing(tmp_path: Path, capsys):
    with pytest.raises(SystemExit, match="2"):
        redraw.main(tmp_path)
    assert "no result.json" in capsys.readouterr().err


def test_redrawing_refuses_a_term_by_another_name_than_todays(tmp_path: Path, capsys):
    rows = [{"term": term, "part": "total", "survival": 1.0} for term in ("gradient", "curvature")]
    entries = {"experiment": "experiments.audit", "config": {"smoke": True}, "git_commit": "abc", "results": {}}
    (tmp_path / "result.json").write_text(json.dumps(entries | {"results": {"table": rows}}))
    with pytest.raises(SystemExit, match="2"):
        redraw.main(tmp_path)
    (complaint,) = capsys.readouterr().err.splitlines()
    assert "the terms are gradient, diagonal, off_diagonal, remainder, and it has curvature" in complaint
    assert complaint.endswith("run it again, or draw it with the version that wrote it, commit abc")
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]
