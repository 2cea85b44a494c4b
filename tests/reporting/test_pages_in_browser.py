import json
import shutil
import subprocess
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

from bnjax.reporting.figures import lines, rows_of, save
from bnjax.reporting.pages import Picture, Run, run_page, runs_page
from bnjax.reporting.records import Record

BROWSER = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs chromium or Google Chrome on the PATH")

TABLE = [
    {"name": name, "survival": survival}
    for name, survival in [("b", 0.1234567), ("a", 2e-16), ("d", 30.0), ("c", 0.1234566)]
] + [{"name": "e", "survival": None, "reason": "none"}]


def record(table: list, **config) -> Record:
    provenance = {"command": "python -m experiments.demo", "started": "2026-01-01T00:00:00+00:00"}
    return Record("experiments.demo", config, provenance, {"table": table})


def seen(page: Path, html: str, script: str, width: int = 900) -> dict:
    """Return what a script returns on a page, in a browser that reports no error."""
    page.write_text(f"{html}<script>document.body.append(JSON.stringify((() => {{{script}}})()))</script>")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    place = [f"--window-size={width},900", f"--user-data-dir={page.parent / 'profile'}", str(page)]
    done = subprocess.run([str(BROWSER), *options, *place], capture_output=True, text=True, timeout=120, check=True)
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    return json.loads(unescape(done.stdout.rpartition("</script>")[2].partition("</body>")[0]))


def test_figures_are_seen_tables_are_sorted_and_a_phone_scrolls_one_way(tmp_path: Path):
    figure = lines(TABLE[:4], x="survival", y="survival", title="Survival", caption="4 rows")
    save({"survival": figure}, tmp_path)
    picture = Picture("survival", "Survival", (tmp_path / "survival.svg").read_text(), rows_of(figure))
    script = """
      const [name, survival] = document.querySelectorAll("#table-table th");
      const rows = document.querySelector("#table-table tbody").rows;
      const click = header => {
        header.querySelector("button").click();
        return [[...rows].map(row => row.cells[0].textContent).join(""), header.getAttribute("aria-sort")];
      };
      document.querySelector(".copy").click();
      return {
        width: document.querySelector(".card svg").getBoundingClientRect().width,
        drawn: document.querySelector(".card path").getBoundingClientRect().width,
        sorted: [click(survival), click(survival), click(name)],
        former: survival.getAttribute("aria-sort"),
        selected: getSelection().toString(),
        page: document.documentElement.scrollWidth - innerWidth,
      };"""
    html = run_page(record(TABLE, rates=[0.1, 0.2]), "Does it hold?", [picture])
    found = seen(tmp_path / "report.html", html, script, width=500)
    assert found["width"] > 300
    assert found["drawn"] > 300
    assert found["sorted"] == [["acbde", "ascending"], ["dbcae", "descending"], ["abcde", "ascending"]]
    assert found["former"] == "none"
    assert found["selected"] == "python -m experiments.demo"
    assert found["page"] <= 0


def test_two_runs_are_set_side_by_side_row_by_row(tmp_path: Path):
    tables = (
        [{"term": "gradient", "survival": 0.25}, {"term": "diagonal", "survival": 1.0}],
        [
            {"term": "diagonal", "survival": 1.0},
            {"term": "gradient", "survival": 0.5},
            {"term": "new", "survival": 2.0},
        ],
        [{"term": "other", "survival": 0.0}],
    )
    runs = [
        Run(record(table, rows=8 * (index + 1), seed=0), f"run{index}/", None, "", {}, ["survival"] if index else [])
        for index, table in enumerate(tables)
    ]
    (tmp_path / "run1").mkdir()
    (tmp_path / "run1" / "survival.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')
    script = """
      const beside = document.getElementById("beside");
      const boxes = [...document.querySelectorAll(".choice")];
      boxes[2].click(); boxes[0].click(); boxes[1].click(); // The first of three gives way.
      const cells = table => [...table.tBodies[0].rows].map(row => [...row.cells].map(cell => cell.innerText));
      const [settings, table] = beside.querySelectorAll("table");
      const shown = {
        ticked: boxes.map(box => box.checked), settings: cells(settings), table: cells(table),
        images: [...beside.querySelectorAll("img")].map(image => image.getAttribute("src")), hidden: beside.hidden,
      };
      boxes[0].click();
      return { ...shown, hiddenAgain: beside.hidden };"""
    found = seen(tmp_path / "index.html", runs_page("Runs", runs), script)
    assert found["ticked"] == [True, True, False]
    assert found["settings"][:2] == [["rows", "8", "16"], ["seed", "0", "0"]]
    assert found["table"] == [
        ["gradient", "left 0.25\nright 0.5\nchange +0.25"],
        ["diagonal", "1"],
        ["new", "left –\nright 2"],
    ]
    assert found["images"] == ["run1/survival.svg"]
    assert (found["hidden"], found["hiddenAgain"]) == (False, True)


def test_the_earlier_run_stands_left_and_zeros_to_rounding_do_not_differ(tmp_path: Path):
    tables = [
        [{"term": "gradient", "survival": survival, "norm": norm}] for survival, norm in ((2e-19, 3.0), (0.0, 2.0))
    ]
    later, earlier = (record(table) for table in tables)
    later = replace(later, provenance={**later.provenance, "started": "2026-01-02T00:00:00+00:00"})
    script = """
      document.querySelectorAll(".choice").forEach(box => box.click());
      const cells = [...document.querySelectorAll("#beside table")].at(-1).tBodies[0].rows[0].cells;
      return [...cells].map(cell => [cell.innerText, cell.classList.contains("differs")]);"""
    page = runs_page("Runs", [Run(each, "", None, "", {}, []) for each in (later, earlier)])
    assert seen(tmp_path / "index.html", page, script) == [
        ["gradient", False],
        ["0", False],
        ["left 2\nright 3\nchange +1", True],
    ]


def test_runs_of_different_experiments_are_not_set_side_by_side(tmp_path: Path):
    one, other = record(TABLE), replace(record(TABLE), experiment="experiments.other")
    runs = [Run(each, "", None, "", {}, ["survival"]) for each in (one, other)]
    script = """
      document.querySelectorAll(".choice").forEach(box => box.click());
      const beside = document.getElementById("beside");
      return { hidden: beside.hidden, said: beside.innerText, parts: beside.querySelectorAll("table, img").length };"""
    found = seen(tmp_path / "index.html", runs_page("Runs", runs), script)
    assert "demo and other are different experiments" in found["said"]
    assert (found["hidden"], found["parts"]) == (False, 0)


def test_claims_are_as_high_as_they_are_and_their_verdicts_in_sight_side_by_side(tmp_path: Path):
    claims = [
        {"paper": "arXiv 2205.15146", "place": "Fig. 1", "claim": f"What is said {index}.", "verdict": "partly"}
        | {"ours": "much of it " * 20, "n": "3 seeds of a network on some data " * 3}
        for index in range(20)
    ]
    kept = Record("experiments.demo", {}, {}, {"table": TABLE, "claims": claims})
    script = """
      document.querySelectorAll(".choice").forEach(box => box.click());
      const boxes = [...document.querySelectorAll(".scroll:has(.verdict)")];
      const ends = [...document.querySelectorAll(".verdict")].map(verdict => verdict.getBoundingClientRect().right);
      return { boxes: boxes.length, inside: Math.max(...boxes.map(box => box.scrollHeight - box.clientHeight)),
               ends: Math.max(...ends) };"""
    pages = {
        "run": run_page(kept, "Does it hold?"),
        "index": runs_page("Runs", [Run(kept, "", None, "", {}, []) for _ in range(2)]),
    }
    for name, html in pages.items():
        found = seen(tmp_path / f"{name}.html", html, script)
        assert (found["boxes"], found["inside"]) == (1, 0)
        assert found["ends"] < 900
