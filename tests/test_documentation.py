"""Every block of Python in the README and on the how-to pages runs as it is pasted, one after the other."""

import re
from collections.abc import Iterator
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "how-to").glob("*.md"))]
BLOCK = re.compile(r"(?P<mark><!-- not run: .+ -->\n)?^```python\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page: Path) -> list[str]:
    return [match["code"] for match in BLOCK.finditer(page.read_text(encoding="utf-8")) if not match["mark"]]


@pytest.fixture
def settings_of_a_reader() -> Iterator[None]:
    """JAX as it is when it is imported: in float32, unless the page says otherwise."""
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


def counts_of_claims(page: Path) -> dict[str, list[int]]:
    """How many claims of each paper have which verdict, by the rows of a page that begin with its number."""
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
