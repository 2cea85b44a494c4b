"""How do the results look? Figures that a reader understands without the text around them.

Every function takes plain rows or matrices, as a record holds them, and returns a `matplotlib.figure.Figure`
with a title, labelled axes and a caption line for the number of rows, the seeds, the dtype and the data set.
Neither the backend nor the global settings of matplotlib are touched. Series differ in hatch, marker and
lightness as well as in colour, so that the figures stay readable in grey. What is zero up to rounding is
drawn as a mark on the axis's floor.
"""

from bnjax.reporting.figures.bars import survival_bars
from bnjax.reporting.figures.boxes import boxes_on_images
from bnjax.reporting.figures.canvas import rows_of, save
from bnjax.reporting.figures.curves import lines
from bnjax.reporting.figures.dots import dots
from bnjax.reporting.figures.grid import grid
from bnjax.reporting.figures.images import image_grid
from bnjax.reporting.figures.maps import heat_maps
from bnjax.reporting.figures.scatter import scatter

__all__ = [
    "boxes_on_images",
    "dots",
    "grid",
    "heat_maps",
    "image_grid",
    "lines",
    "rows_of",
    "save",
    "scatter",
    "survival_bars",
]
