"""Does the site that was built hold together, without a network? Every finding is a warning of the build.

- Links within the site lead to a page, and to a place on it, that is there; no two places of a page have one name.
- Nothing that a page is shown with (script, style, font, picture) comes from elsewhere.
- Every function and class of the reference has a link to its source, and its page one to the theory, if there is any.
- Every name that a package offers is described.
"""

import importlib
import pkgutil
import re
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from sphinx.application import Sphinx
from sphinx.util import logging

import bnjax

LOGGER = logging.getLogger(__name__)
# What of the library is plain programming, and has no equations.
WITHOUT_THEORY = ("data", "models.detection", "reporting", "reporting.figures", "reporting.pages", "training")
DESCRIBED = re.compile(r'<dl class="py (?:function|class|exception)">\s*<dt[^>]* id="([\w.]+)">(.*?)</dt>', re.DOTALL)
ELSEWHERE = re.compile(r"url\(\s*[\"']?((?:https?:)?//[^)\"']+)")


class Page(HTMLParser):
    """A page's links, the scripts, styles and pictures that it is shown with, and the places that can be linked to."""

    def __init__(self, text: str) -> None:
        """Read the page."""
        super().__init__()
        self.links: list[str] = []
        self.parts: list[str] = []
        self.ids: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take down what one element says."""
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        self.ids += [given["id"]] if "id" in given else []
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if "src" in given:
            self.parts.append(given["src"])
        if tag == "link" and given.get("rel") in ("stylesheet", "icon", "preload"):
            self.parts.append(given["href"])


def setup(app: Sphinx) -> dict[str, Any]:
    """Look at the site after it is built."""
    app.connect("build-finished", check, priority=900)  # After all that adds to it.
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def check(app: Sphinx, error: Exception | None) -> None:
    """Warn of whatever does not hold."""
    if error is None and app.builder.format == "html":
        for finding in findings(Path(app.outdir)):
            LOGGER.warning(finding)


def findings(site: Path) -> Iterator[str]:
    """Yield what does not hold of the site in a folder."""
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(site.rglob("*.html"))}
    pages = {path: Page(text) for path, text in texts.items()}
    for path, page in pages.items():
        for link in (*page.links, *page.parts):
            if problem := broken(link, path, pages):
                yield f"{path.relative_to(site)} has the link {link}: {problem}"
        repeated = sorted(name for name, times in Counter(page.ids).items() if times > 1)
        yield from (f"{path.relative_to(site)} has two places of the name {name}" for name in repeated)
        yield from (f"{path.relative_to(site)} is shown with {part}" for part in page.parts if urlsplit(part).netloc)
    for path in sorted(site.rglob("*.css")):
        text = path.read_text(encoding="utf-8")
        yield from (f"{path.relative_to(site)} takes {match[1]}" for match in ELSEWHERE.finditer(text))
    reference = {path: text for path, text in texts.items() if path.parent == site / "docs" / "reference"}
    for path, text in reference.items():
        for name, signature in DESCRIBED.findall(text):
            if "[source]" not in signature:
                yield f"{name} has no link to its source"
        if path.stem not in WITHOUT_THEORY and not any("theory.html#" in link for link in pages[path].links):
            yield f"docs/reference/{path.stem} has no link to the theory"
    described = set.union(*(pages[path].anchors for path in reference))
    yield from (f"{name} is on no page of the reference" for name in sorted(offered() - described))


def broken(link: str, page: Path, pages: dict[Path, Page]) -> str | None:
    """Return what is wrong with a link within the site, None if nothing is."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return None
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if not target.is_file():
        return "there is no such file"
    if parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
        return "there is no such place on the page"
    return None


def offered() -> set[str]:
    """Return the names that the library's packages offer, by the package that makes them its own."""
    packages = [info.name for info in pkgutil.walk_packages(bnjax.__path__, "bnjax.") if info.ispkg]
    names: dict[int, str] = {}
    for package in (bnjax, *map(importlib.import_module, packages)):
        for name in getattr(package, "__all__", ()):
            names.setdefault(id(getattr(package, name)), f"{package.__name__}.{name}")
    return set(names.values()) - {"bnjax.normalizers"}
