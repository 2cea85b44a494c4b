"""How does a result read in a browser? Pages of one file each, which load nothing and can be sent, printed and kept.

A page is made of `Table`, `Picture` and `Link`; `page` sets it with a title and an introduction, `run_page` is the page
of one run, from its record, and `runs_page` lists runs and compares two. They return HTML, which the caller writes.
This package loads jinja2, so import it by name where it is needed.
"""

from bnjax.reporting.pages.elements import Link, Picture, Section, Table
from bnjax.reporting.pages.page import page
from bnjax.reporting.pages.run import run_page
from bnjax.reporting.pages.runs import Run, runs_page

__all__ = ["Link", "Picture", "Run", "Section", "Table", "page", "run_page", "runs_page"]
