import re
from collections import Counter
from html.parser import HTMLParser

import pytest

from bnjax.reporting.figures import lines, rows_of, save
from bnjax.reporting.pages import Link, Picture, Section, Table, page, run_page
from bnjax.reporting.pages.elements import ROWS_SHOWN
from bnjax.reporting.pages.svg import inline_svg
from bnjax.reporting.records import Record

VOID = {"meta", "br", "img", "input"}
TABLE = [{"term": f"term {order}", "survival": 1 / (order + 3)} for order in range(4)]
CLAIM = {"paper": "arXiv 2205.15146", "place": "Fig. 1", "claim": "None survives.", "ours": "0", "n": "3"}
RESULTS = {
    "table": TABLE,
    "runs": [{"seed": 0, "loss": None, "reason": "it <diverged> & stopped"}],
    "claims": [CLAIM | {"verdict": "not reproduced"}],
    "failures": ["2 < 1"],
    "data": "digits",
}
PROVENANCE = {"command": "python -m experiments.demo --rates 0.1", "versions": {"jax": "0.10"}, "wall_time_s": 2.5}


def record(**results) -> Record:
    return Record("experiments.demo", {"smoke": False, "rates": [0.1, 0.2]}, PROVENANCE, RESULTS | results)


def pictures(directory, *names: str) -> list[Picture]:
    figures = {name: lines(TABLE, x="survival", y="survival", title="Survival", caption="4 rows") for name in names}
    save(figures, directory)
    return [Picture(name, "S", (directory / f"{name}.svg").read_text(), rows_of(figures[name])) for name in names]


class Elements(HTMLParser):
    """All elements of a page; every end tag has to close the element that is open."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def values(self, attribute: str) -> list[str]:
        return [value for _, attributes in self.found if (value := attributes.get(attribute)) is not None]


@pytest.fixture(scope="module")
def html(tmp_path_factory) -> str:
    return run_page(record(), "Does it hold?", pictures(tmp_path_factory.mktemp("run"), "left", "right"))


def test_every_element_of_a_page_is_closed_where_it_was_opened(html):
    assert len(Elements(html).found) > 100


def test_a_page_loads_nothing_from_elsewhere(html):
    elements = Elements(html)
    assert elements.values("src") == []
    assert not {"link", "iframe", "img", "object"} & {tag for tag, _ in elements.found}
    assert "@import" not in html
    assert set(re.findall(r"url\(([^)]*)", html)) <= {f"#{name}" for name in elements.values("id")}
    assert {href for href in elements.values("href") if "//" in href} == {"https://arxiv.org/abs/2205.15146"}


def test_the_identifiers_of_several_figures_are_unique(html):
    counts = Counter(Elements(html).values("id"))
    assert {name for name, count in counts.items() if count > 1} == set()
    assert {"left-figure_1", "right-figure_1"} <= set(counts)


def test_references_within_a_figure_lead_to_its_own_parts(html):
    elements = Elements(html)
    inner = {href[1:] for href in elements.values("href") if href.startswith("#")}
    assert inner
    assert inner <= set(elements.values("id"))


def test_the_verdict_on_a_claim_is_the_first_of_what_is_said_of_it(html):
    row = html[html.index('id="claims"') :]
    assert row.index("✗</span> not reproduced") < row.index("arxiv.org") < row.index("None survives.")


def test_every_table_of_the_record_is_there_with_its_file(html):
    assert {"table.csv", "runs.csv", "claims.csv"} <= set(Elements(html).values("href"))
    assert all(f"term {order}" in html for order in range(4))


def test_text_of_a_record_is_text_on_its_page():
    html = run_page(record(table=[{"term": "<script>alert(1)</script>"}]), 'Is "<b>" bold?')
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "<b>" not in html
    assert "it &lt;diverged&gt; &amp; stopped" in html


def test_a_page_says_question_claims_failed_checks_settings_and_command(html):
    text = re.sub(r"<[^>]*>", "", html)
    for said in ("Does it hold?", "not reproduced", "2 &lt; 1", "0.1 0.2", "versions jax", PROVENANCE["command"]):
        assert said in text


@pytest.mark.parametrize(("failures", "said"), [([], "All checks of the computation hold."), (["it failed"], "Failed")])
def test_a_page_says_whether_the_checks_hold(failures, said):
    assert said in run_page(record(failures=failures), "")


def test_the_page_of_a_smoke_run_alone_says_why_it_says_nothing_of_claims():
    said = "so nothing is said of the claims"
    assert said in run_page(Record("experiments.demo", {"smoke": True}, PROVENANCE, RESULTS), "Does it hold?")
    assert said not in run_page(record(), "Does it hold?")


def test_a_record_of_an_older_version_has_a_page():
    assert "What?" in run_page(Record("experiments.demo", {}, {}, {"table": TABLE}), "What?")


def test_exact_numbers_stand_beside_the_rounded_ones(html):
    assert f'title="{1 / 3}"' in html


def test_the_numbers_behind_a_figure_stand_below_it_and_can_be_saved(html):
    figure = html[html.index('id="figure-left"') : html.index("</figure>")]
    assert "term 3" in figure
    assert "data:text/csv" in figure


def test_of_a_long_table_the_first_rows_stand_on_the_page_and_the_rest_is_named():
    rows = [{"row": index} for index in range(ROWS_SHOWN + 100)]
    html = run_page(record(table=rows), "")
    assert f"The first {ROWS_SHOWN} of {ROWS_SHOWN + 100} rows" in html
    assert f">{ROWS_SHOWN - 1}</td>" in html
    assert f">{ROWS_SHOWN}</td>" not in html


def test_a_page_reads_the_rows_of_a_table_a_few_times_however_many_there_are():
    class Rows(list):
        read = 0

        def __iter__(self):
            Rows.read += 1
            return super().__iter__()

    page(
        "Runs", "", [Section("All", tables=[Table("rows", Rows({"order": order, "loss": 1.0} for order in range(50)))])]
    )
    assert Rows.read < 10


def test_a_page_of_sections_holds_links_in_its_cells():
    rows = [{"run": Link("the <run>", "demo/report.html"), "verdict": "partly"}]
    html = page("Title", "Introduction.", [Section("Part", "Text.", tables=[Table("claims", rows)])])
    assert '<a href="demo/report.html">the &lt;run&gt;</a>' in html
    assert "data:text/csv;charset=utf-8,run,verdict%0Athe %3Crun%3E,partly%0A" in html
    assert len(Elements(html).found) > 20


def test_what_is_no_svg_is_no_picture():
    with pytest.raises(ValueError, match="needs the text of an SVG file, got 'not svg'"):
        inline_svg("not svg", prefix="a", title="b")
