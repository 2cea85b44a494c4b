"""What the documentation site's own code does: formulas, links of docstrings, and the check of what was built."""

from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("sphinx", reason="the site is built with the extra `docs`")
EXTENSIONS = Path(__file__).parents[1] / "docs" / "site"


@pytest.fixture
def extension(monkeypatch):
    """Return what imports an extension as Sphinx does, by its own name."""
    monkeypatch.syspath_prepend(str(EXTENSIONS))
    return import_module


def test_formulas_need_nothing_that_browsers_lack(extension):
    formula = extension("mathml").as_mathml(r"\lVert \hat y \rVert \in \mathbb R^{\mathbf 1 \top}", "inline", None)
    assert "mathvariant" not in formula
    assert all(letter in formula for letter in "ˆℝ𝟏⊤")
    assert formula.count('<mo stretchy="false">‖</mo>') == 2


def test_a_command_that_no_formula_has_is_a_warning(extension, monkeypatch):
    mathml, warned = extension("mathml"), []
    monkeypatch.setattr(mathml, "LOGGER", SimpleNamespace(warning=lambda *words, **_: warned.append(words)))
    mathml.as_mathml(r"\nosuchcommand x", "inline", None)
    assert warned[0][-1] == r"\nosuchcommand"


@pytest.mark.parametrize(
    ("docstring", "linked"),
    [
        (
            "(docs/theory.md, numerical traps)",
            "(:theory:`docs/theory.md`, :theory:`numerical traps <numerical-traps>`)",
        ),
        ("docs/theory.md, J and J2.", ":theory:`docs/theory.md`, :theory:`J <j>` and :theory:`J2 <j2>`."),
        ("T1–T6 of *one* row", ":theory:`T1 <t1>`–:theory:`T6 <t6>` of *one* row"),
        ("of shape (n, *row), |x|, `a * T1`", r"of shape (n, \*row), \|x\|, `a * T1`"),
        (">>> T1 * 2", ">>> T1 * 2"),
    ],
)
def test_docstrings_lead_to_the_theory_and_code_stays(extension, docstring, linked):
    lines = [docstring]
    extension("repository_links").link_docstring(None, "function", "", None, None, lines)
    assert lines == [linked]


def test_anchors_that_headings_have_here_anyway_are_left_out(extension):
    source = ['<a id="t7"></a>\n\n### T7 — any batch\n\n<a id="other"></a>\n\n## Cost\n']
    extension("repository_links").drop_anchors(None, "docs/theory", source)
    assert source == ['### T7 — any batch\n\n<a id="other"></a>\n\n## Cost\n']


def test_statements_are_anchors_by_their_numbers_and_other_headings_as_on_github(extension):
    slug = extension("repository_links").slug
    assert slug("T6 — Hessians of the terms") == "t6"
    assert slug("Expansion of a row's loss") == "expansion-of-a-rows-loss"


def test_classes_of_both_interfaces_of_flax_are_told_apart(extension):
    written = "(model: ~flax.linen.module.Module | ~flax.nnx.module.Module, *, layer: str)"
    found = extension("reference").name_flax(None, "function", "", None, None, written, "~flax.nnx.State")
    assert found == ("(model: linen.Module | nnx.Module, *, layer: str)", "nnx.State")
    assert extension("reference").name_flax(None, "class", "", None, None, None, None) == (None, None)


def test_what_is_wrong_with_a_built_site_is_found(extension, tmp_path):
    name = '<dl class="py function"><dt class="sig" id="bnjax.blocking">blocking{}</dt></dl>'
    reference = tmp_path / "docs" / "reference"
    reference.mkdir(parents=True)
    (reference / "bnjax.html").write_text(name.format(""), encoding="utf-8")
    (tmp_path / "index.html").write_text(
        '<script src="https://example.org/a.js"></script><a href="docs/reference/bnjax.html#bnjax.blocking">there</a>'
        '<a href="nowhere.html">no file</a><a href="#nowhere">no place</a><p id="here"><b id="here"></b><i id="there">',
        encoding="utf-8",
    )
    (tmp_path / "a.css").write_text("@import url(https://example.org/font.css)", encoding="utf-8")
    found = "\n".join(extension("built_links").findings(tmp_path))
    assert "nowhere.html: there is no such file" in found
    assert "#nowhere: there is no such place" in found
    assert "index.html has two places of the name here" in found
    assert "of the name there" not in found
    assert found.count("example.org") == 2
    assert "bnjax.blocking has no link to its source" in found
    assert "docs/reference/bnjax has no link to the theory" in found
    assert "bnjax.audit is on no page of the reference" in found
    assert "bnjax.blocking is on no page" not in found
    assert "there:" not in found
