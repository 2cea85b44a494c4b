"""Every block of Python in the README and on the how-to pages runs as it is pasted, one after the other."""

import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "how-to").glob("*.md"))]
BLOCK = re.compile(r"(?P<mark><!-- not run: .+ -->\n)?^```python\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)

PRINTING = re.compile(r"^```python\n(?P<code>[^`]*)^```\n\n```text\n(?P<printed>[^`]*)^```$", re.MULTILINE)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]\d+)?")
# Whatever is below it is rounding of float64, and another on every machine.
ROUNDING = 1e-12


def blocks(page: Path) -> list[str]:
    return [match["code"] for match in BLOCK.finditer(page.read_text(encoding="utf-8")) if not match["mark"]]


@pytest.fixture
def settings_of_a_reader() -> Iterator[None]:
    """Have JAX as it is when it is imported: in float32, unless the page says otherwise."""
    jax.config.update("jax_enable_x64", False)
    yield
    jax.config.update("jax_enable_x64", True)
    plt.close("all")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
@pytest.mark.usefixtures("settings_of_a_reader")
def test_blocks_run_as_they_are_pasted(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": page.stem}
    for number, code in enumerate(blocks(page), start=1):
        exec(compile(code, f"{page.name}, block {number}", "exec"), names)


def says_the_same(printed: str, shown: str) -> bool:
    """Return whether two texts differ in spaces, in a unit of a number's last digit, or in rounding alone."""
    texts = {re.sub(r"[─\s]+", " ", NUMBER.sub("#", text)) for text in (printed, shown)}
    numbers = zip(NUMBER.findall(printed), NUMBER.findall(shown), strict=False)
    units = ((one, other, 10.0 ** int(Decimal(other).as_tuple().exponent)) for one, other in numbers)
    return len(texts) == 1 and all(
        abs(float(one) - float(other)) <= max(1.01 * unit, ROUNDING) for one, other, unit in units
    )


@pytest.mark.parametrize(
    ("printed", "same"),
    [
        ("term  0.977  3.1e-16", True),
        ("term 0.978 -2e-15", True),
        ("term 0.979 3.0e-16", False),
        ("term 0.977 3.0e-03", False),
        ("part 0.977 3.0e-16", False),
        ("term 0.977", False),
    ],
)
def test_texts_are_told_apart_by_words_and_by_numbers_above_rounding(printed, same):
    assert says_the_same(printed, "term 0.977 3.0e-16") == same


@pytest.mark.usefixtures("settings_of_a_reader")
def test_the_example_of_the_readme_prints_what_is_shown_below_it(capsys):
    (example,) = PRINTING.finditer((ROOT / "README.md").read_text(encoding="utf-8"))
    exec(compile(example["code"], "README.md", "exec"), {"__name__": "readme"})
    printed = capsys.readouterr().out
    assert says_the_same(printed, example["printed"]), printed


def counts_of_claims(page: Path) -> dict[str, list[int]]:
    """Return how many claims of each paper have which verdict, by the rows of a page that begin with its number."""
    row = re.compile(r"^\| \[?arXiv ([\d.]+)(?:\]\(.*?\))? \|((?: \d+ \|){4})", re.MULTILINE)
    return {paper: [*map(int, re.findall(r"\d+", counts))] for paper, counts in row.findall(page.read_text("utf-8"))}


def test_the_readme_counts_the_claims_as_the_results_do():
    assert len(counts_of_claims(ROOT / "docs" / "results.md")) == 3
    assert counts_of_claims(ROOT / "README.md") == counts_of_claims(ROOT / "docs" / "results.md")


@pytest.mark.parametrize("page", ["contributing.md", "how-to/add-a-normalizer.md", "how-to/add-an-experiment.md"])
def test_files_that_are_named_are_there(page):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    named = re.findall(r"`((?:bnjax|benchmarks|docs|experiments|tests)/[\w/.]*)`", text)
    # The experiment that the page has the reader write.
    missing = [name for name in named if not (ROOT / name).exists() and name != "experiments/mean_shift.py"]
    assert named
    assert missing == []
