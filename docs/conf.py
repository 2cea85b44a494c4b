"""Settings of the documentation site: the repository's own Markdown, and the reference from the docstrings.

The source folder is the root of the repository, so that a link means the same here as where the files are browsed:

    python -m sphinx -W --keep-going -c docs . build/site
"""

import sys
import typing
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "site")]

# Lets jaxtyping write shapes as in the source, `Float[Array, "n d"]`.
typing.GENERATING_DOCUMENTATION = "bnjax"  # pyright: ignore[reportAttributeAccessIssue]

from bnjax import __version__  # noqa: E402

project = "bnjax"
author = "the bnjax developers"
version = release = __version__
root_doc = "README"
include_patterns = ["README.md", "CHANGELOG.md", "docs/**", "notebooks/*.ipynb"]
exclude_patterns = ["docs/site/*.md", "build/**", "results/**", ".[a-z]*/**", "**/.ipynb_checkpoints"]

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "mathml",
    "reference",
    "repository_links",
    "built_links",
]

# Every reference that leads nowhere is a warning, and the build takes warnings for errors.
nitpicky = True
# Types of other libraries: their pages are elsewhere, and the site is built without a network.
nitpick_ignore_regex = [("py:.*", r"(?!bnjax).*")]
# A type variable, which has no page.
nitpick_ignore = [("py:class", "bnjax.compilation.Result")]

myst_enable_extensions = ["dollarmath", "html_image"]
myst_heading_anchors = 4
myst_heading_slug_func = "repository_links.slug"
nb_execution_mode = "off"
suppress_warnings = ["myst.header"]

# Docstrings write code in single backticks.
default_role = "code"
autodoc_default_options = {"members": True, "member-order": "bysource"}
autosummary_generate = False
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False
maximum_signature_line_length = 80

html_theme = "furo"
html_title = "bnjax"
html_static_path = ["site/static"]
html_css_files = ["site.css"]
html_additional_pages = {"index": "redirect.html"}
templates_path = ["site/templates"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}
pygments_style = "friendly"
pygments_dark_style = "monokai"
