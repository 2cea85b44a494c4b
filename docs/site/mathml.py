"""Formulas as MathML, which browsers show by themselves: no script and no network, and a formula is text.

Converted while the site is built; what the converter does not know is a warning. `\\tag{12}` numbers an equation and
makes it the target `#equation-12`.
"""

import re
import shutil
from html import escape
from pathlib import Path
from typing import Any

import ziamath
from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

LOGGER = logging.getLogger(__name__)
# The one that comes with ziamath: not every system has a font with the shapes of formulas.
FONT = Path(ziamath.__file__).with_name("fonts") / "STIXTwoMath-Regular.ttf"
TAG = re.compile(r"\\tag\{(\w+)\}")


def as_mathml(latex: str, display: str, place: nodes.Element) -> str:
    """Return a formula as a `<math>` element, and warn if a command is left over."""
    formula = convert(latex, display=display)
    if unknown := re.search(r"\\\w+", formula):
        LOGGER.warning("the formula %r has the unknown command %s", latex, unknown[0], location=place)
    return formula


def visit_inline(self: HTML5Translator, node: nodes.math) -> None:
    """Write a formula within a line."""
    self.body.append(as_mathml(node.astext(), "inline", node))
    raise nodes.SkipNode


def visit_display(self: HTML5Translator, node: nodes.math_block) -> None:
    """Write a formula of its own line, with its number."""
    latex = node.astext()
    number = TAG.search(latex)
    formula = as_mathml(TAG.sub("", latex), "block", node)
    if number is None:
        self.body.append(f'<div class="math">{formula}</div>')
    else:
        target, text = escape(f"equation-{number[1]}"), escape(f"({number[1]})")
        link = f'<a class="number" href="#{target}">{text}</a>'
        self.body.append(f'<div class="math" id="{target}">{formula}{link}</div>')
    raise nodes.SkipNode


def copy_font(app: Sphinx, error: Exception | None) -> None:
    """Put the font beside the style sheets."""
    if error is None:
        shutil.copy(FONT, Path(app.outdir) / "_static" / FONT.name)


def setup(app: Sphinx) -> dict[str, Any]:
    """Make this the way in which formulas are written."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_display, None))
    app.config.html_math_renderer = "mathml"
    app.connect("build-finished", copy_font)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
