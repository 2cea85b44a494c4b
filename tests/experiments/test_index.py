import json
from pathlib import Path

import pytest

from bnjax.reporting.records import Record, write_record
from experiments import index
from experiments.polynomial_orders import Config


def written(folder: Path, experiment: str, config: dict, started: str = "2026-01-01T00:00:00+00:00", **results) -> Path:
    folder.mkdir(parents=True)
    write_record(folder, Record(experiment, config, {"started": started}, {"table": [{"order": 1}], **results}))
    return folder


@pytest.fixture
def html(tmp_path: Path) -> str:
    run = written(tmp_path / "a b#" / "run", "experiments.polynomial_orders", {"seed": Config().seed, "rows": 7})
    (run / "report.html").touch()
    claims = [
        {"paper": "a paper", "claim": "It is so.", "verdict": verdict} for verdict in ("partly", "partly", "misprinted")
    ]
    late = "2026-02-01T00:00:00+00:00"
    written(tmp_path / "foreign", "elsewhere.study", {"depth": 3}, late, claims=claims, failures=["one", "two"])
    odd = json.dumps({"experiment": 5, "config": {}, "results": {}})
    for name, text in {"damaged": "{", "other": '{"config": <b>}', "odd": odd}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(text)
    index.main(tmp_path)
    return (tmp_path / "index.html").read_text()


def test_runs_are_listed_with_their_question_page_and_settings_other_than_the_default(html, tmp_path: Path):
    assert f"<h1>Runs of {tmp_path.name}</h1>" in html
    assert "Which powers of a polynomial loss reach the layers below batch normalization?" in html
    assert '<a href="a%20b%23/run/report.html">polynomial_orders</a>' in html
    assert "<td>rows 7</td>" in html
    assert "<td>depth 3</td>" in html


def test_runs_say_what_they_found_and_the_latest_is_first(html):
    assert "2 partly, 1 misprinted; ✗ 2 checks failed" in html
    assert html.index("2026-02-01 00:00:00 UTC") < html.index("2026-01-01 00:00:00 UTC")


def test_damaged_records_are_listed_as_such(html):
    listed = html[html.index('id="damaged"') :]
    assert all(f"<td>{folder}</td>" in listed for folder in ("damaged", "other", "odd"))
    assert "is not the record of a run: experiment: 5 is not of type" in listed
    assert "<b>" not in listed


def test_what_is_compared_survives_being_part_of_a_page(tmp_path: Path):
    written(tmp_path / "run", "experiments.demo", {"text": "</script><!--"})
    page = index.index(tmp_path).read_text()
    start = page.index('id="data">') + len('id="data">')
    (data,) = json.loads(page[start : page.index("</script>", start)])
    assert data["settings"]["text"] == "</script><!--"


def test_a_folder_without_runs_is_refused(tmp_path: Path, capsys):
    with pytest.raises(SystemExit, match="2"):
        index.main(tmp_path)
    assert "give a folder that holds runs" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
