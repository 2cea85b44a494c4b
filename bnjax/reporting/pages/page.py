"""How is a page set? From a template, with everything that it needs inside of it."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from bnjax.reporting.pages.elements import Choice, Link, Section
from bnjax.reporting.pages.svg import inline_svg
from bnjax.reporting.tables import format_value


def page(title: str, introduction: str, sections: Sequence[Section]) -> str:
    """Return a page of tables and pictures as HTML.

    Args:
        title: its heading.
        introduction: a paragraph below the heading.
        sections: its parts, in order; each has a heading, text, tables and pictures.

    Example:
        >>> from bnjax.reporting.pages import Link, Table
        >>> rows = [{"paper": Link("arXiv 1805.11604", "https://arxiv.org/abs/1805.11604"), "verdict": "partly"}]
        >>> html = page("Claims", "What holds.", [Section("All of them", tables=[Table("claims", rows)])])
        >>> '<a href="https://arxiv.org/abs/1805.11604">arXiv 1805.11604</a>' in html
        True
    """
    return render("page.html", title=title, introduction=introduction, sections=sections)


def render(template: str, **values: Any) -> str:
    """Return a template of this package, filled in; text is escaped."""
    return _environment().get_template(template).render(**values)


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("bnjax.reporting.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}
    environment.filters |= {"value": format_value, "inline_svg": inline_svg, "words": _words}
    kinds = {"link": Link, "choice": Choice, "inexact": float}
    environment.tests |= {name: partial(_is_a, kind=kind) for name, kind in kinds.items()}
    return environment


def _is_a(value: Any, *, kind: type) -> bool:
    return isinstance(value, kind)


def _words(name: str) -> str:
    """Return a name of the record as words."""
    return name.replace("_", " ")
