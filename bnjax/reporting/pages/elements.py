"""What stands on a page? Tables that sort, pictures with the numbers behind them, and links."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import quote

from bnjax.reporting.records import Row, column_names
from bnjax.reporting.tables import is_number

# More of a table makes a page slow and large; the file with all of its rows is named instead.
ROWS_SHOWN = 500


@dataclass(frozen=True)
class Link:
    """A cell that leads somewhere: to a paper, or to a file beside the page.

    Attributes:
        text: what the cell shows.
        address: where it leads, a URL or a path relative to the page.
    """

    text: str
    address: str


@dataclass(frozen=True)
class Choice:
    """A cell to tick: an entry of the page's data by its index, and its name for those who do not see the row."""

    index: int
    text: str


@dataclass(frozen=True)
class Table:
    """Flat rows under a name; the page shows the first `ROWS_SHOWN` and sorts them by any column.

    Attributes:
        name: the table's name, as in the record.
        rows: its rows. A cell is a value as a record holds it, or a `Link`.
        file: the address of the CSV file with all rows, relative to the page; None if the page is to carry it.
    """

    name: str
    rows: Sequence[Row]
    file: str | None = None

    @cached_property
    def columns(self) -> list[str]:
        """The keys of all rows, in the order of first appearance."""
        return column_names(self.rows)

    @property
    def shown(self) -> Sequence[Row]:
        """The rows that stand on the page."""
        return self.rows[:ROWS_SHOWN]

    @cached_property
    def numeric(self) -> set[str]:
        """The columns that hold numbers, and beside them at most gaps."""
        return {
            name for name in self.columns if all(is_number(row[name]) for row in self.rows if row.get(name) is not None)
        }

    @property
    def download(self) -> str:
        """The address of the rows as CSV: the file, or the rows that the page shows, inside of the page."""
        return self.file or f"data:text/csv;charset=utf-8,{quote(_csv(self.shown, self.columns), safe=', ()[]=±')}"


@dataclass(frozen=True)
class Picture:
    """A figure on a page.

    Attributes:
        name: the name of its file, without the suffix.
        title: what it shows, for those who do not see it.
        svg: the text of the SVG file.
        rows: the numbers from which it is drawn; none where they are no rows.
    """

    name: str
    title: str
    svg: str
    rows: Sequence[Row] = ()

    @property
    def numbers(self) -> Table:
        """The rows as a table of the page."""
        return Table(self.name, self.rows)


@dataclass(frozen=True)
class Section:
    """A part of a page under its own heading.

    Attributes:
        title: the heading.
        text: what is said under it, before the tables.
        tables: its tables.
        pictures: its pictures.
    """

    title: str
    text: str = ""
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()


def _csv(rows: Sequence[Row], columns: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _plain(cell) for key, cell in row.items()} for row in rows)
    return text.getvalue()


def _plain(cell: Any) -> Any:
    return cell.text if isinstance(cell, Link | Choice) else cell
