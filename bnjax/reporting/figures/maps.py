"""How does a matrix look at two places? Heat maps side by side, symmetric around zero."""

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, ScalarFormatter
from numpy.typing import ArrayLike

from bnjax.reporting.figures.canvas import INK, STYLE, framed
from bnjax.reporting.tables import format_value

# Maps of a line.
COLUMNS = 2


def heat_maps(
    matrices: Mapping[str, ArrayLike],
    *,
    title: str,
    caption: str,
    block: int | None = None,
    axis_label: str = "index of row · feature",
) -> Figure:
    """Draw matrices side by side, such as a Hessian at a normalizer's output and before the normalizer.

    The maps of one line share their limits, symmetric around zero, and one colour bar, so that colours compare across
    them. Each map's title states its Frobenius norm.

    Args:
        matrices: the matrices by the titles of their maps, line by line.
        title: the statement or question of the figure.
        caption: the line below it.
        block: of so many indices, such as the features of one row, are blocks that thin lines separate; none if None.
        axis_label: what the indices count.

    Raises:
        ValueError: there are no matrices, or one has another rank than 2 or is not finite.
    """
    maps = {name: np.asarray(matrix, dtype=float) for name, matrix in matrices.items()}
    if not maps:
        raise ValueError("heat_maps needs at least one matrix")
    for name, matrix in maps.items():
        if matrix.ndim != 2 or not matrix.size or not np.isfinite(matrix).all():
            raise ValueError(f"heat_maps needs finite, non-empty matrices; {name!r}, of shape {matrix.shape}, is not")
    names = list(maps)
    lines_of_maps = [names[start : start + COLUMNS] for start in range(0, len(names), COLUMNS)]
    with mpl.rc_context({**STYLE, "axes.spines.top": True, "axes.spines.right": True}):
        size = (1.6 + 3.6 * min(COLUMNS, len(names)), 1.1 + 3.6 * len(lines_of_maps))
        figure, axes = framed(size, title, caption, len(lines_of_maps), min(COLUMNS, len(names)))
        for line, line_axes in zip(lines_of_maps, axes.reshape(len(lines_of_maps), -1), strict=True):
            largest = max(np.abs(maps[name]).max() for name in line) or 1.0
            drawn = list(zip(line, line_axes, strict=False))
            for name, axis in drawn:
                _draw_map(axis, name, maps[name], largest, axis_label, block)
            _color_bar(figure, [axis for _, axis in drawn])
            for axis in line_axes[len(line) :]:
                axis.set_visible(False)
    return figure


def _draw_map(axis: Axes, name: str, matrix: np.ndarray, limit: float, axis_label: str, block: int | None) -> None:
    axis.imshow(matrix, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest", rasterized=True)
    axis.set_title(f"{name}\nFrobenius norm {format_value(float(np.linalg.norm(matrix)))}", color=INK)
    axis.set_xlabel(axis_label)
    axis.set_ylabel(axis_label)
    for along in (axis.xaxis, axis.yaxis):
        along.set_major_locator(MaxNLocator(6, integer=True))
    if block:
        for draw, extent in zip((axis.axhline, axis.axvline), matrix.shape, strict=True):
            for edge in range(block, extent, block):
                draw(edge - 0.5, color="0.6", linewidth=0.5)


def _color_bar(figure: Figure, axes: list[Axes]) -> None:
    powers = ScalarFormatter()
    powers.set_powerlimits((-2, 3))
    figure.colorbar(axes[0].get_images()[0], ax=axes, format=powers, shrink=0.85, pad=0.02, label="second derivative")
