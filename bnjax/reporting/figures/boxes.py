"""What was found in images, and what is there? Boxes on a line of images for every name."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from bnjax.reporting.figures.canvas import COLORS, INK, STYLE, framed, legend
from bnjax.reporting.records import Row

LOOKS: dict[str, dict[str, Any]] = {
    "there": {"color": INK, "linestyle": (0, (2, 2)), "linewidth": 1.2},
    "found": {"color": COLORS[1], "linestyle": "-", "linewidth": 1.6},
}


def boxes_on_images(
    images: Any, there: Sequence[Row], found: Mapping[str, Sequence[Row]], *, title: str, caption: str
) -> Figure:
    """Draw the same images once for every name, with the boxes that are there, dashed, and those that were found.

    Above a box that was found stand its label and its score.

    Args:
        images: (n, h, w, channels) in [0, 1], with 1 channel (0 is white) or 3.
        there: rows with `image`, its index, `label`, and the box, `x0`, `y0`, `x1` and `y1` in pixels.
        found: by name, such rows with a `score`.
        title: the statement or question of the figure.
        caption: the line below it.

    Raises:
        ValueError: no images or no name.
    """
    pixels = np.asarray(images, dtype=float)
    if not len(pixels) or not found:
        raise ValueError(f"boxes_on_images needs images and names, got {len(pixels)} and {len(found)}")
    with mpl.rc_context({**STYLE, "axes.spines.top": True, "axes.spines.right": True}):
        size = (1.7 + 1.9 * len(pixels), 1.4 + 2.05 * len(found))
        figure, axes = framed(size, title, caption, lines=len(found), columns=len(pixels))
        for (name, rows), line in zip(found.items(), axes.reshape(len(found), len(pixels)), strict=True):
            for index, axis in enumerate(line):
                axis.imshow(pixels[index].squeeze(), cmap="gray_r", vmin=0, vmax=1, interpolation="nearest", alpha=0.6)
                for look, own in (("there", there), ("found", rows)):
                    _draw_boxes(axis, [row for row in own if row["image"] == index], LOOKS[look])
                axis.set_xticks([])
                axis.set_yticks([])
            line[0].set_ylabel(name.replace("_", "\n"), rotation=0, ha="right", va="center", color=INK)
        handles = [Line2D([], [], label=label, **look) for label, look in LOOKS.items()]
        legend(axes[len(pixels) - 1], handles=handles)
    return figure


def _draw_boxes(axis: Axes, rows: Sequence[Row], look: dict[str, Any]) -> None:
    for row in rows:
        corner = row["x0"] - 0.5, row["y0"] - 0.5  # The first pixel's middle is at 0.
        axis.add_patch(Rectangle(corner, row["x1"] - row["x0"], row["y1"] - row["y0"], fill=False, **look))
        if "score" in row:
            paper = {"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.5}
            axis.text(*corner, f"{row['label']}  {row['score']:.2f}", fontsize=6, va="bottom", bbox=paper)
