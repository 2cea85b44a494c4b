"""Links of the repository that are pages of the site: sources, statements of the theory, the table of contents.

- `[terms](../bnjax/derivatives/terms.py)` on a page leads to the page of that source.
- `docs/theory.md, T6` in a docstring leads to that statement, `docs/theory.md, numerical traps` to that section, and so
  does the name of a statement alone.
"""

import functools
import importlib
import inspect
import re
from pathlib import Path, PurePosixPath
from typing import Any

from docutils import nodes
from myst_parser.slugs import github_slugify
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util.docutils import SphinxRole
from sphinx.util.osutil import relative_uri

THEORY = "docs/theory"
NAVIGATION = Path(__file__).with_name("navigation.md")
REFERENCE = Path(__file__).parents[1] / "reference"

# What of a docstring is code, and stays as it is; what leads to the theory; and what is markup only by accident.
CODE = r"(?P<code>`+[^`]+`+|^\s*(?:>>>|\.\.\.) .*$)"
PLACE = r"(?P<page>docs/theory\.md)(?:, (?P<place>[A-Z]\b|[\w -]+?(?=[;,.:)]| and )))?"
STATEMENT = r"\b(?P<statement>J2|[TSF][1-9]|R1)\b"
EMPHASIS = r"(?P<emphasis>\*\w[\w ,-]*\w\*(?!\w))"
ACCIDENT = r"(?<!\\)(?P<accident>[*|])"
ANCHOR = re.compile(r'^<a id="\w+"></a>\n\n(?=#+ \w+ — )', re.MULTILINE)
DOCSTRING = re.compile("|".join((CODE, PLACE, STATEMENT, EMPHASIS, ACCIDENT)), re.MULTILINE)


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect what this file does to the build."""
    app.connect("source-read", add_navigation)
    app.connect("source-read", drop_anchors)
    app.connect("autodoc-process-docstring", link_docstring, priority=600)  # What napoleon has made of it.
    app.add_role("theory", TheoryRole())
    app.add_transform(SourceLinks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def slug(title: str) -> str:
    """Return the anchor of a heading: that of GitHub, of `T6 — Hessians of the terms` its number, `t6`."""
    return github_slugify(title.split(" — ")[0])


def add_navigation(app: Sphinx, name: str, source: list[str]) -> None:
    """Append the table of contents, which a reader of the plain README has no use for, to the start page."""
    if name == app.config.root_doc:
        source[0] += NAVIGATION.read_text(encoding="utf-8")


def drop_anchors(app: Sphinx, name: str, source: list[str]) -> None:
    """Leave out the anchors that GitHub needs before a statement's heading, which here has the same one."""
    del app, name
    source[0] = ANCHOR.sub("", source[0])


def link_docstring(app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Let a docstring's mentions of the theory lead there, and a lone asterisk or bar be one."""
    del app, what, name, value, options
    lines[:] = DOCSTRING.sub(_linked, "\n".join(lines)).split("\n")


def _linked(match: re.Match[str]) -> str:
    if match["page"]:
        link = f":theory:`{match['page']}`"
        return f"{link}, :theory:`{match['place']} <{slug(match['place'])}>`" if match["place"] else link
    if match["statement"]:
        return f":theory:`{match['statement']} <{slug(match['statement'])}>`"
    return f"\\{match['accident']}" if match["accident"] else match[0]


class TheoryRole(SphinxRole):
    """The role `:theory:`, a link as Markdown has it: an anchor that is not there is a warning."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Return the link to a heading, or to the page."""
        text, _, anchor = self.text.removesuffix(">").partition(" <")
        link = addnodes.pending_xref(
            refdomain="doc",
            reftype="myst",
            reftarget=THEORY,
            reftargetid=anchor or None,
            refdoc=self.env.docname,
            refexplicit=True,
        )
        self.set_source_info(link)
        link += nodes.inline(text, text)
        return [link], []


class SourceLinks(SphinxTransform):
    """Let links to files of the library lead to the pages that show them; others remain downloads."""

    default_priority = 500

    def apply(self, **kwargs: Any) -> None:
        """Replace the links of one page."""
        del kwargs
        page = self.app.builder.get_target_uri(self.env.docname)
        for link in list(self.document.findall(addnodes.download_reference)):
            path = PurePosixPath(self.env.relfn2path(link["reftarget"], self.env.docname)[0])
            if ".".join(path.with_suffix("").parts) in shown_modules():
                uri = relative_uri(page, f"_modules/{path.with_suffix('.html')}")
                link.replace_self(nodes.reference("", "", *link.children, refuri=uri, internal=True))


@functools.cache
def shown_modules() -> set[str]:
    """Return the modules whose sources have a page: those that define what the reference describes."""
    text = "".join(page.read_text(encoding="utf-8") for page in REFERENCE.glob("*.md"))
    described = [importlib.import_module(name) for name in re.findall(r"automodule:: ([\w.]+)", text)]
    offered = (getattr(module, name) for module in described for name in getattr(module, "__all__", ()))
    defining = {value.__module__ for value in offered if inspect.isroutine(value) or inspect.isclass(value)}
    return defining | {module.__name__ for module in described if not hasattr(module, "__all__")}
