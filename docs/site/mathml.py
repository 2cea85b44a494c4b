r"""Formulas as MathML, which browsers show by themselves: no script and no network, and a formula is text.

Converted while the site is built; a command that the converter does not know is a warning. `\tag{12}` numbers an
equation and makes it the target `#equation-12`.
"""

import re
import shutil
import unicodedata
from importlib.metadata import distribution
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, fromstring, tostring

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

LOGGER = logging.getLogger(__name__)
# The one that comes with ziamath, of which no code is used: not every system has a font with the shapes of formulas.
FONT = Path(str(distribution("ziamath").locate_file("ziamath/fonts/STIXTwoMath-Regular.ttf")))
TAG = re.compile(r"\\tag\{(\w+)\}")

# The converter takes signs of the keyboard and of spacing; fonts place these as accents.
ACCENTS = {
    "^": "\N{MODIFIER LETTER CIRCUMFLEX ACCENT}",
    "~": "\N{SMALL TILDE}",
    "\N{MACRON}": "\N{MODIFIER LETTER MACRON}",
}
SCRIPTS = ("msup", "msub", "msubsup")


def setup(app: Sphinx) -> dict[str, Any]:
    """Make this the way in which formulas are written."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_display, None))
    app.config.html_math_renderer = "mathml"
    app.connect("build-finished", copy_font)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def visit_inline(self: HTML5Translator, node: nodes.math) -> None:
    """Write a formula within a line."""
    # Joined to what follows, lest a comma begin a line.
    self.body.append(as_mathml(node.astext(), "inline", node) + "\N{WORD JOINER}")
    raise nodes.SkipNode


def visit_display(self: HTML5Translator, node: nodes.math_block) -> None:
    """Write a formula of its own line, with its number."""
    latex = node.astext()
    number = TAG.search(latex)
    formula = as_mathml(TAG.sub("", latex), "block", node)
    if number is None:
        self.body.append(f'<div class="formula">{formula}</div>')
    else:
        target = f"equation-{number[1]}"
        link = f'<a class="number" href="#{target}">({number[1]})</a>'
        self.body.append(f'<div class="formula" id="{target}">{formula}{link}</div>')
    raise nodes.SkipNode


def as_mathml(latex: str, display: str, place: nodes.Element) -> str:
    """Return a formula as a `<math>` element, and warn if a command is left over."""
    # HTML knows the element without its name space.
    formula = fromstring(convert(latex, xmlns="", display=display))
    for element in formula.iter():
        shown_as_meant(element)
    text = tostring(formula, encoding="unicode")
    if unknown := re.search(r"\\\w+", text):
        LOGGER.warning("the formula %r has the unknown command %s", latex, unknown[0], location=place)
    return text


def shown_as_meant(element: Element) -> None:
    """Change what browsers show otherwise than TeX: accents, bold letters, bars that grow, spaces around scripts."""
    if element.tag == "mover" and element[1].text in ACCENTS:
        element.set("accent", "true")
        element[1].text = ACCENTS[element[1].text]
        element[1].set("stretchy", "false")
    if element.tag in SCRIPTS:
        for script in element[1:]:
            script.attrib |= {"lspace": "0", "rspace": "0"} if script.tag == "mo" else {}
    if element.tag == "mo" and element.text in ("\N{DOUBLE VERTICAL LINE}", "|") and "minsize" not in element.attrib:
        element.set("stretchy", "false")
    if element.text and element.get("mathvariant") in ("bold", "double-struck"):
        element.text = "".join(in_style(letter, element.attrib["mathvariant"]) for letter in element.text)
        del element.attrib["mathvariant"]


def in_style(letter: str, style: str) -> str:
    """Return the bold or double-struck form of a letter or digit, itself where Unicode has none."""
    plain = unicodedata.name(letter).replace("LATIN ", "").replace("LETTER ", "")
    for name in (f"MATHEMATICAL {style} {plain}", f"{style} {plain}"):
        try:
            return unicodedata.lookup(name)
        except KeyError:
            continue
    return letter


def copy_font(app: Sphinx, error: Exception | None) -> None:
    """Put the font beside the style sheets."""
    if error is None:
        shutil.copy(FONT, Path(app.outdir) / "_static" / FONT.name)
