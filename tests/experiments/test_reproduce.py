"""All experiments of the three papers run one after the other, and a document says what was found of each claim."""

import json
import re
import sys
import types
from importlib import import_module
from pathlib import Path

import pytest

from bnjax.reporting.locks import alone_in
from experiments import reproduce as command
from experiments.common.claim import BLINDNESS, COLLAPSE, OPTIMIZATION, Claim, verdict
from experiments.common.reproduced import FINDINGS, document, verdict_rows
from experiments.reproduce import Config, main, reproduce

FOUND = [
    Claim(BLINDNESS, "Fig. 1", "None | survives.", "0.1 ± 0.05,\np < 0.05", "3 seeds", "reproduced").to_row(),
    Claim(OPTIMIZATION, "section 2", "All survive.", "none", "1 seed", "misprinted").to_row(),
]


@pytest.fixture
def experiments(stand_in, monkeypatch):
    """Put three stand-ins in the experiments' place: one finds something, one is refused, one fails its check."""
    stand_in("finds", claims=FOUND)
    stand_in("refused", "import sys; sys.exit('error: no such images')")
    stand_in("fails", failures=["the loss is 3"])
    papers = {BLINDNESS: ("finds",), OPTIMIZATION: ("refused",), COLLAPSE: ("fails",)}
    monkeypatch.setattr(command, "EXPERIMENTS", papers)
    return Config(only=("finds", "refused", "fails"))


def test_what_fails_or_is_refused_does_not_stop_the_others_and_is_told(experiments, tmp_path, capsys):
    with pytest.raises(SystemExit, match="1"):
        main(Config(only=experiments.only, output=tmp_path / "all"))
    said = capsys.readouterr()
    rows = [line.split("  ") for line in said.out.splitlines() if "experiments." in line]
    assert [row[0] for row in rows] == [f"python -m experiments.{name}" for name in experiments.only]
    assert "1 reproduced, 1 misprinted" in said.out
    assert "failed: refused: no such images (exit status 1)\nfailed: fails: the loss is 3\n" in said.err


def test_the_same_command_goes_on(experiments, stand_in, tmp_path):
    reproduce(experiments, tmp_path)
    stand_in("finds", "raise AssertionError('run again')")
    stand_in("refused")
    finds, refused, fails = reproduce(experiments, tmp_path)
    assert (finds.claims, finds.failures) == (FOUND, [])
    assert (refused.claims, refused.failures) == ([], [])
    assert fails.failures == ["the loss is 3"]


@pytest.mark.parametrize(("term", "claims"), [("first_order", FOUND), ("gradient", [])])
def test_claims_are_told_anew_unless_the_record_has_a_term_that_is_none_today(
    stand_in, monkeypatch, tmp_path, term, claims
):
    row = {"normalizer": "batch_norm", "batch": "mixed", "term": term, "part": "shared", "survival": 0.5}
    stand_in("hessian_blocking", table=[row], runs=[row], claims=FOUND)
    monkeypatch.setattr(command, "EXPERIMENTS", {BLINDNESS: ("hessian_blocking",)})
    (experiment,) = reproduce(Config(only=("hessian_blocking",)), tmp_path / "all")
    assert experiment.claims == claims


@pytest.mark.usefixtures("experiments")
def test_only_some_run_and_the_others_are_shown_as_far_as_they_are_recorded(tmp_path):
    finds, refused, fails = reproduce(Config(only=("fails",)), tmp_path)
    assert (finds.outcome, finds.failures) == (refused.outcome, refused.failures) == ("not run yet", [])
    assert fails.record is not None
    assert reproduce(Config(only=("finds",)), tmp_path)[2] == fails


@pytest.mark.usefixtures("experiments")
def test_a_folder_of_another_command_is_refused_before_anything_runs(tmp_path, capsys):
    reproduce(Config(only=("fails",)), tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main(Config(only=("finds",), preset="smoke", output=tmp_path))
    assert "experiments.fails --output" in capsys.readouterr().err
    assert not (tmp_path / "finds").exists()


def test_a_folder_into_which_another_run_writes_is_refused(experiments, tmp_path, capsys):
    with alone_in(tmp_path), pytest.raises(SystemExit, match="2"):
        main(Config(only=experiments.only, output=tmp_path))
    assert "is being written by another run" in capsys.readouterr().err


def test_a_document_of_smoke_runs_is_refused(experiments, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(Config(only=experiments.only, preset="smoke", output=tmp_path / "all", document=tmp_path / "claims.md"))
    assert "smoke runs say nothing of the claims" in capsys.readouterr().err
    assert not (tmp_path / "all").exists()


def test_the_document_holds_every_claim_of_the_records(experiments, tmp_path):
    path = tmp_path / "claims.md"
    found = reproduce(Config(only=experiments.only, document=path), tmp_path / "all")
    assert path.read_text() == document(found, path)
    tables = [
        [re.split(r"(?<!\\) ?\| ?", line)[1:-1] for line in table.splitlines()[2:]]
        for table in path.read_text().split("\n\n")
        if table.startswith("|")
    ]
    verdicts, blindness, optimization, runs = tables
    assert verdicts == [
        ["arXiv 2205.15146", "1", "0", "0", "0", "0"],
        ["arXiv 1805.11604", "0", "0", "0", "1", "1"],
        ["arXiv 2001.11216", "0", "0", "0", "0", "0"],
    ]
    command = "`python -m experiments.finds`"
    ours = r"0.1 ± 0.05, p \< 0.05"
    assert blindness == [[r"None \| survives.", "reproduced", ours, "3 seeds", "Fig. 1", command, "130"]]
    assert [row[:2] + row[4:5] + row[6:] for row in optimization] == [
        ["All survive.", "misprinted", "section 2", "130"],
        ["experiments.refused", "no such images (exit status 1)", "", "–"],
    ]
    assert "(arXiv 2001.11216)\n\nNothing was found.\n" in path.read_text()
    assert [row[3:] for row in runs] == [
        ["hold", "1 reproduced, 1 misprinted", "2026-05-04", "cpu, 2 cores"],
        ["no such images (exit status 1)", "", "", ""],
        ["the loss is 3", "", "2026-05-04", "cpu, 2 cores"],
    ]


def change(record: Path, change_results=None, **entries) -> None:
    """Write entries of a record anew."""
    kept = json.loads(record.read_text()) | entries
    record.write_text(json.dumps(kept | {"results": kept["results"] | (change_results or {})}))


@pytest.mark.parametrize(
    ("entries", "results", "place"),
    [
        ({"device": "cpu"}, {}, "device: 'cpu'"),
        ({"command": "python -m 'experiments"}, {}, "command: "),
        ({}, {"failures": "broken"}, "results.failures: 'broken'"),
        ({}, {"claims": [{"paper": "arXiv 2205.15146", "claim": "It is so."}]}, "results.claims[0]: 'verdict'"),
    ],
)
def test_a_damaged_record_is_told_with_what_to_do_and_the_others_are_shown(
    experiments, entries, results, place, tmp_path, capsys
):
    output = tmp_path / "all"
    reproduce(experiments, output)
    (output / "report.html").unlink()
    change(output / "fails" / "result.json", results, **entries)
    capsys.readouterr()
    with pytest.raises(SystemExit, match="1"):
        main(Config(only=("finds",), output=output))
    said = capsys.readouterr()
    (line,) = said.err.splitlines()[-1:]
    assert line.startswith(f"failed: fails: {output / 'fails' / 'result.json'} is not the record of a run: {place}")
    assert line.endswith("; remove it")
    assert "1 reproduced, 1 misprinted" in said.out
    assert "is not the record of a run" in (output / "report.html").read_text()


def test_claims_stay_as_they_were_kept_where_todays_rules_have_no_case(experiments, tmp_path, monkeypatch):
    reproduce(experiments, tmp_path)
    module = types.ModuleType("experiments.finds")
    module.claims = lambda *_: verdict([])  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "experiments.finds", module)
    assert reproduce(experiments, tmp_path)[0].claims == FOUND


def test_a_kept_claim_with_an_earlier_verdict_is_counted_by_its_word(experiments, tmp_path):
    reproduce(experiments, tmp_path)
    change(tmp_path / "finds" / "result.json", {"claims": [FOUND[0] | {"verdict": "confirmed"}, FOUND[1]]})
    blindness, optimization, collapse = verdict_rows(reproduce(experiments, tmp_path))
    assert (blindness["confirmed"], blindness["reproduced"], blindness["experiments without a record"]) == (1, 0, 0)
    assert (optimization["confirmed"], optimization["misprinted"]) == (0, 1)
    assert optimization["experiments without a record"] == 1
    assert list(blindness) == list(optimization) == list(collapse)


@pytest.mark.parametrize("place", ["", "file/claims.md"])
def test_a_document_that_cannot_be_written_is_refused_before_anything_runs(experiments, place, tmp_path, capsys):
    (tmp_path / "file").touch()
    document = tmp_path / place
    with pytest.raises(SystemExit, match="2"):
        main(Config(only=experiments.only, output=tmp_path / "all", document=document))
    said = capsys.readouterr().err
    assert said.startswith(f"error: {document} can't be written: ")
    assert said.endswith("; give another file, by --document\n")
    assert not (tmp_path / "all").exists()


def test_a_document_may_be_in_a_folder_that_is_not_there_yet(experiments, tmp_path):
    path = tmp_path / "new" / "folder" / "claims.md"
    reproduce(Config(only=experiments.only, document=path), tmp_path / "all")
    assert path.is_file()


def test_the_page_leads_to_the_pages_of_the_runs(experiments, tmp_path):
    reproduce(experiments, tmp_path)
    html = (tmp_path / "report.html").read_text()
    assert html.count('href="finds/report.html"') == len(FOUND) + 1  # Of each claim, and of the run.
    assert 'href="refused/report.html"' not in html
    assert "None | survives." in html


def test_a_page_of_runs_that_found_nothing_lists_the_runs_alone(experiments, stand_in, tmp_path):
    stand_in("finds")
    reproduce(experiments, tmp_path)
    html = (tmp_path / "report.html").read_text()
    assert "experiments.finds" in html
    assert "Verdicts" not in html


def test_options_go_to_the_experiments_that_take_them():
    config = Config(preset="paper", devices=2, data_dir=Path("images"))
    given = ["--preset", "paper", "--devices", "2"]
    assert config.arguments("deep_linear") == given
    assert config.arguments("performance") == [*given, "--data-dir", "images"]
    assert Config(preset="smoke").arguments("performance") == ["--smoke"]
    assert Config().arguments("performance") == []


def test_every_experiment_that_has_something_to_say_of_a_claim_is_run():
    folder = Path(command.__file__).parent
    modules = {path.stem: import_module(f"experiments.{path.stem}") for path in folder.glob("[!_]*.py")}
    with_claims = {name for name, module in modules.items() if hasattr(module, "run") and hasattr(module, "claims")}
    listed = set(command.NAMES)
    assert with_claims <= listed
    assert all(hasattr(modules[name], "Config") for name in listed)


def test_every_experiment_is_in_the_document_of_the_repository():
    text = FINDINGS.with_name("results.md").read_text(encoding="utf-8")
    assert [name for name in command.NAMES if f"`python -m experiments.{name}`" not in text] == []
