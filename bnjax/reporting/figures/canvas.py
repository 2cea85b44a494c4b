"""What do all figures share? Their style, their frame of title and caption, and how they are written to files."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bnjax.reporting.files import replacing
from bnjax.reporting.records import Row

STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.formatter.min_exponent": 4,  # 2, 30 or 4000, for of a decade's parts 3×10¹ and 4×10¹ would run together.
    "grid.color": "0.9",
    "grid.linewidth": 0.8,
    "hatch.linewidth": 0.7,
    "legend.frameon": False,
    "mathtext.default": "regular",
    "svg.hashsalt": "bnjax",
}
COLORS = ("#1f3b5c", "#e08a2e", "#a9cbe3", "#6f6f6f", "#f3d79b", "#3f8f86", "#b4504f")
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "---", "+++")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*", "d")
DASHES = ("-", "--", ":", "-.")
INK = "0.25"
FAINT = "0.45"
ROUNDING = 1e-12


class Drawing(Figure):
    """A figure that knows the rows it was drawn from."""

    rows: Sequence[Row] = ()


def save(figures: Mapping[str, Figure], directory: Path) -> list[Path]:
    """Write each figure to a directory, as `<name>.png` (150 dpi) and `<name>.svg`, each whole or not at all.

    The same figure gives the same bytes: no date is written. Both files have one layout, which is fixed by the first.

    Returns:
        The paths, in the order of the figures.
    """
    paths = [directory / f"{name}{suffix}" for name in figures for suffix in (".png", ".svg")]
    with mpl.rc_context(STYLE):
        for path in paths:
            kind = path.suffix[1:]
            metadata = {"Date": None} if kind == "svg" else None
            with replacing(path) as temporary:
                figures[path.stem].savefig(temporary, format=kind, dpi=150, metadata=metadata)
            figures[path.stem].set_layout_engine("none")
    return paths


def framed(
    size: tuple[float, float],
    title: str,
    caption: str,
    lines: int = 1,
    columns: int = 1,
    *,
    rows: Sequence[Row] = (),
) -> tuple[Figure, Any]:
    """Return a figure of some rows with its title and caption, and its axes as a flat array."""
    figure = Drawing(figsize=size, layout="constrained")
    figure.rows = rows
    characters = size[0] * 15
    # The title's letters are larger than the caption's, and bold.
    figure.suptitle(textwrap.fill(title, int(characters * 0.55)), x=0.01, ha="left", fontsize=12, fontweight="bold")
    figure.supxlabel(textwrap.fill(caption, int(characters)), x=0.01, ha="left", fontsize=8, color=FAINT)
    return figure, figure.subplots(lines, columns, squeeze=False).ravel()


def rows_of(figure: Figure) -> Sequence[Row]:
    """Return the rows that a figure was drawn from; none where it was drawn from matrices or images."""
    return figure.rows if isinstance(figure, Drawing) else ()


def legend(axis: Axes, title: str = "", handles: Sequence[Artist] | None = None) -> None:
    """Put the legend to the right of the axes, below the figure's title, under the name of what it tells apart."""
    # A part of the axes, for which the layout makes room; a legend of the figure may stand on the figure's title.
    axis.legend(title=title, loc="upper left", bbox_to_anchor=(1, 1), alignment="left", handles=handles)


def distinct(rows: Sequence[Row], key: str) -> list[Any]:
    """Return the values of a key, in the order of first appearance."""
    return list(dict.fromkeys(row[key] for row in rows))


def with_reasons(caption: str, rows: Sequence[Row], key: str) -> str:
    """Return the caption, followed by the reasons of the rows in which `key` is None."""
    reasons = dict.fromkeys(row.get("reason") or "no such term" for row in rows if row[key] is None)
    return f"{caption.rstrip(' .')}. n/a: {'; '.join(reasons)}." if reasons else caption


def power(number: float) -> str:
    """Return a floor as a label, such as 1e-12."""
    return f"{number:.0e}".replace("e-0", "e-")
