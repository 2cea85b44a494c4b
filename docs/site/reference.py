"""What the reference has beside docstrings: a summary on top, no fields without words, ways back from the sources."""

import inspect
import itertools
import re
from typing import Any

from sphinx.application import Sphinx

FLAX = re.compile(r"~flax\.(linen|nnx)\.(?:\w+\.)*(\w+)")
WAY_BACK = re.compile(r'(class="viewcode-back" href="[./]*)(docs/reference/[\w.]+)\.html#([\w.]+)')


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect what this file does to the build."""
    app.connect("autodoc-process-docstring", add_summary)
    app.connect("autodoc-skip-member", skip_fields)
    app.connect("autodoc-process-signature", name_flax)
    app.connect("html-page-context", lead_back)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def add_summary(app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Append a table of the module's names, functions first, to its docstring."""
    del app, name
    if what == "module" and hasattr(value, "__all__"):
        names = sorted(set(value.__all__) - set(options.exclude_members or ()), key=str.lower)
        functions = [name for name in names if inspect.isroutine(getattr(value, name))]
        classes = [name for name in names if inspect.isclass(getattr(value, name))]
        lines += ["", ".. autosummary::", "   :nosignatures:", "", *(f"   {name}" for name in functions + classes), ""]


def skip_fields(app: Sphinx, what: str, name: str, value: Any, skip: bool, options: Any) -> bool | None:
    """Leave out the fields of named tuples: they are in the signature, and told of in the docstring."""
    del app, what, name, skip, options
    return True if type(value).__name__ == "_tuplegetter" else None


def name_flax(
    app: Sphinx, what: str, name: str, value: Any, options: Any, arguments: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """Name classes of flax with the interface that they are of, since linen and nnx have a Module each."""
    del app, what, name, value, options
    arguments, returned = (text and FLAX.sub(r"\1.\2", text) for text in (arguments, returned))
    return arguments, returned


def lead_back(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """Let a source's links to the reference name what is there.

    Sphinx takes all that a file defines to be offered by one package; here a file may serve two.
    """
    del template, tree
    if not page.startswith("_modules/bnjax"):
        return
    described: dict[str, list[str]] = {}
    for name, entry in app.env.domains.python_domain.objects.items():
        described.setdefault(entry.docname, []).append(name)

    def corrected(match: re.Match[str]) -> str:
        start, target, name = match.groups()
        return f"{start}{target}.html#{max(described[target], key=lambda other: same_ending(name, other))}"

    context["body"] = WAY_BACK.sub(corrected, context["body"])


def same_ending(first: str, second: str) -> int:
    """Return how many names from the last on two dotted paths have in common."""
    pairs = zip(reversed(first.split(".")), reversed(second.split(".")), strict=False)
    return len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)))
