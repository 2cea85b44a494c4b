"""What do images look like? A line of images for every name."""

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from bnjax.reporting.figures.canvas import INK, STYLE, framed


def image_grid(images: Mapping[str, Any], *, title: str, caption: str) -> Figure:
    """Draw images side by side, a line for each name.

    Args:
        images: by name, equally many images (n, h, w, channels) in [0, 1], with 1 channel (0 is white) or 3.
        title: the statement or question of the figure.
        caption: the line below it.

    Raises:
        ValueError: no images, or names with different numbers of them.
    """
    arrays = {name: np.asarray(of_name, dtype=float) for name, of_name in images.items()}
    counts = {len(array) for array in arrays.values()}
    if len(counts) != 1 or counts == {0}:
        raise ValueError(f"image_grid needs equally many images for every name, got {sorted(counts)}")
    (count,) = counts
    with mpl.rc_context(STYLE):
        size = (1.6 + 0.7 * count, 1.4 + 0.75 * len(arrays))
        figure, axes = framed(size, title, caption, lines=len(arrays), columns=count)
        for (name, array), line in zip(arrays.items(), axes.reshape(len(arrays), count), strict=True):
            for image, axis in zip(array, line, strict=True):
                axis.imshow(image.squeeze(), cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
                axis.set_xticks([])
                axis.set_yticks([])
            line[0].set_ylabel(name, rotation=0, ha="right", va="center", color=INK)
    return figure
