import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer
from matplotlib.text import Text

from bnjax.reporting.figures import heat_maps, lines, save, survival_bars
from bnjax.reporting.figures.canvas import HATCHES, MARKERS, STYLE

TEXTS: dict[str, Any] = {"title": "A title", "caption": "n = 4 rows, seed 0, float64."}
BARS = [
    {"normalizer": name, "batch": batch, "term": term, "part": part, "survival": survival}
    for batch in ("single_class", "mixed")
    for name, survival in (("none", 1.0), ("batch_norm", 1e-16), ("layer_norm", 0.4))
    for term, part in (("gradient", "shared"), ("gradient", "total"), ("remainder", "total"))
]
POINTS = [
    {"order": order, "survival": 1 / order, "std": 0.1, "normalizer": name}
    for order in (1, 2, 3)
    for name in ("none", "batch_norm")
]


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


FIGURES = {
    "bars": lambda: survival_bars(BARS, panels="batch", **TEXTS),
    "maps": lambda: heat_maps({"output": np.eye(4), "input": np.zeros((4, 4))}, block=2, **TEXTS),
    "lines": lambda: lines(POINTS, x="order", y="survival", series="normalizer", spread="std", **TEXTS),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_has_its_title_caption_and_axis_labels(name):
    figure = FIGURES[name]()
    figure.draw_without_rendering()
    assert {"A title", "n = 4 rows, seed 0, float64."} <= set(texts(figure))
    assert all(axis.get_ylabel() for axis in figure.axes)


@pytest.mark.parametrize("name", FIGURES)
def test_drawing_changes_no_global_setting(name, tmp_path: Path):
    before = dict.copy(mpl.rcParams)  # The raw settings: looking up the backend would choose one.
    save({name: FIGURES[name]()}, tmp_path)
    assert dict.copy(mpl.rcParams) == before


def test_drawing_never_loads_pyplot():
    code = "import sys, bnjax.reporting.figures; print('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "False\n"


def test_the_same_figure_gives_the_same_bytes(tmp_path: Path):
    once, again = (save({"bars": FIGURES["bars"]()}, tmp_path / name) for name in ("once", "again"))
    assert [path.name for path in once] == ["bars.png", "bars.svg"]
    assert [path.read_bytes() for path in once] == [path.read_bytes() for path in again]


def test_an_interrupted_save_leaves_no_half_written_figure(tmp_path: Path, monkeypatch):
    figure = FIGURES["maps"]()

    def half_written(path, **_):
        Path(path).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(figure, "savefig", half_written)
    with pytest.raises(KeyboardInterrupt):
        save({"maps": figure}, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_survival_of_zero_is_drawn_as_a_mark_and_labelled():
    figure = survival_bars(BARS, panels="batch", **TEXTS)
    assert texts(figure).count("≤1e-12") == 6
    marks = [(axis, line) for axis in figure.axes for line in axis.lines if line.get_marker() == "D"]
    assert len(marks) == 6
    assert all(np.asarray(line.get_ydata()).item() == axis.get_ylim()[0] for axis, line in marks)


def test_a_survival_too_small_for_the_axis_is_marked_there():
    row = {"term": "diagonal", "normalizer": "batch_norm", "survival": 3e-8}
    (axis,) = survival_bars([row], **TEXTS).axes
    assert sum(line.get_marker() == "^" for line in axis.lines) == 1
    assert "3.0e-08" in [text.get_text() for text in axis.texts]


@pytest.mark.parametrize(("spread", "ends"), [(0.1, [0.3, 0.5]), ((0.3, 0.2), [0.1, 0.6]), (None, None)])
def test_a_whisker_reaches_as_far_as_its_row_says_to_each_side(spread, ends):
    row = {"term": "diagonal", "normalizer": "batch_norm", "survival": 0.4, "spread": spread}
    (axis,) = survival_bars([row], spread="spread", **TEXTS).axes
    drawn = [
        bars.lines[2][0].get_segments()[0][:, 1] for bars in axis.containers if isinstance(bars, ErrorbarContainer)
    ]
    assert bool(drawn) == (ends is not None)
    assert ends is None or np.allclose(drawn[0], ends)


def test_a_missing_survival_is_marked_and_explained():
    rows = [
        {**row, "survival": None, "reason": "zero gradient"} if row["normalizer"] == "none" else row for row in BARS
    ]
    shown = texts(survival_bars(rows, panels="batch", **TEXTS))
    assert shown.count("n/a") == 6
    assert any("n/a: zero gradient." in text for text in shown)


def test_a_part_that_does_not_exist_has_no_bar_and_no_mark():
    assert texts(survival_bars(BARS[1:], panels="batch", **TEXTS)).count("n/a") == 0


def test_survivals_above_one_fit_on_the_axis():
    rows = [{"normalizer": "lp", "term": "gradient", "survival": 1.9}]
    assert survival_bars(rows, **TEXTS).axes[0].get_ylim()[1] > 1.9


def test_a_few_bars_of_another_share_say_which_and_leave_room_for_the_title():
    rows = [{"normalizer": "lp", "term": "gradient", "survival": 0.6}]
    figure = survival_bars(rows, value_label="share", **TEXTS)
    assert figure.axes[0].get_ylabel() == "share"
    assert figure.get_figwidth() >= 5


def test_two_rows_for_one_bar_are_refused():
    with pytest.raises(ValueError, match="same bar"):
        survival_bars(BARS, **TEXTS)


def test_series_differ_without_colour():
    names = [f"normalizer {index}" for index in range(13)]
    bars = survival_bars([{"normalizer": name, "term": "gradient", "survival": 0.5} for name in names], **TEXTS)
    assert {patch.get_hatch() or "" for patch in bars.axes[0].patches} == set(HATCHES)
    drawn = lines(
        [{"order": 1, "survival": 1.0, "by": name} for name in names],
        x="order",
        y="survival",
        series="by",
        **TEXTS,
    )
    assert {str(line.get_marker()) for line in drawn.axes[0].lines} == set(MARKERS)


def test_the_maps_of_a_line_share_symmetric_limits():
    figure = heat_maps({"a": np.diag([1.0, -3.0]), "b": np.eye(2) * 2, "c": np.eye(2) * 9}, **TEXTS)
    limits = [image.get_clim() for axis in figure.axes for image in axis.get_images()]
    assert limits == [(-3, 3), (-3, 3), (-9, 9)]


def test_a_single_part_is_not_labelled():
    rows = [row for row in BARS if row["part"] == "total"]
    assert "total" not in texts(survival_bars(rows, panels="batch", **TEXTS))


def test_each_map_states_its_norm():
    assert "output\nFrobenius norm 2.00" in texts(FIGURES["maps"]())


@pytest.mark.parametrize("matrix", [np.zeros(3), np.zeros((0, 0)), np.full((2, 2), np.nan)])
def test_what_is_no_finite_matrix_is_refused(matrix):
    with pytest.raises(ValueError, match="'bad'"):
        heat_maps({"bad": matrix}, **TEXTS)


def test_a_line_is_drawn_in_the_order_of_its_x():
    figure = lines(POINTS[::-1], x="order", y="survival", series="normalizer", **TEXTS)
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_xdata(), [1, 2, 3])


def test_a_null_leaves_a_gap_and_its_reason():
    rows = [
        *POINTS[2:],
        {"order": 1, "survival": None, "normalizer": "none", "std": None, "reason": "zero term"},
    ]
    figure = lines(rows, x="order", y="survival", series="normalizer", spread="std", **TEXTS)
    assert np.isnan(np.asarray(figure.axes[0].lines[0].get_ydata())[0])
    assert any("n/a: zero term." in text for text in texts(figure))


def test_a_logarithmic_axis_refuses_zero_unless_a_floor_is_given():
    rows = [{"order": 1, "survival": 0.0}, {"order": 2, "survival": 1.0}]
    with pytest.raises(ValueError, match="floor"):
        lines(rows, x="order", y="survival", log_y=True, **TEXTS)
    figure = lines(rows, x="order", y="survival", log_y=True, floor=1e-12, **TEXTS)
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), [1e-12, 1.0])
    assert figure.axes[0].get_ylabel() == "survival\n(hollow: at most 1e-12, zero to rounding)"
    with pytest.raises(ValueError, match="order >= 0"):
        lines([{"order": -1, "survival": 1.0}], x="order", y="survival", log_x=True, **TEXTS)


def test_a_logarithmic_axis_from_zero_on_has_a_tick_at_every_value():
    rows = [{"epoch": epoch, "survival": 1.0} for epoch in (0, 1, 2, 4, 64)]
    axis = lines(rows, x="epoch", y="survival", log_x=True, **TEXTS).axes[0]
    assert axis.get_xticks().tolist() == [0, 1, 2, 4, 64]
    assert [text.get_text() for text in axis.get_xticklabels()] == ["0", "1", "2", "4", "64"]
    places = axis.transScale.transform([(epoch, 1.0) for epoch in (1, 2, 4, 64)])[:, 0]
    np.testing.assert_allclose(np.diff(places) / (places[1] - places[0]), [1, 1, 4])


def test_labels_of_a_linear_axis_have_room_between_them():
    rows = [{"margin": place / 20, "curvature": 1.0 + place} for place in range(-20, 21)]
    figure = lines(rows, x="margin", y="curvature", title="Curvature", caption="1 filter")
    figure.canvas.draw()
    labels = [label.get_window_extent() for label in figure.axes[0].get_xticklabels() if label.get_text()]
    assert len(labels) > 3
    assert all(one.x1 + one.height < other.x0 for one, other in pairwise(labels))


def test_panels_of_lines_hold_their_own_rows_on_the_same_vertical_axis():
    rows = [{**row, "batch": "mixed", "survival": 10 * row["survival"]} for row in POINTS] + [
        {**row, "batch": "single_class"} for row in POINTS[:1]
    ]
    figure = lines(rows, x="order", y="survival", series="normalizer", panels="batch", **TEXTS)
    mixed, single = figure.axes
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["batch: mixed", "batch: single_class"]
    assert mixed.get_ylim() == single.get_ylim()
    assert max(np.max(np.asarray(line.get_ydata())) for line in mixed.lines if len(np.asarray(line.get_ydata()))) == 10
    drawn = [np.asarray(line.get_ydata()) for line in single.lines]
    assert sorted(len(values) for values in drawn)[-1] == 1


def test_no_rows_are_refused():
    for draw in (
        lambda: survival_bars([], **TEXTS),
        lambda: lines([], x="a", y="b", **TEXTS),
        lambda: heat_maps({}, **TEXTS),
    ):
        with pytest.raises(ValueError, match="at least one"):
            draw()


@pytest.mark.parametrize("places", [(10, 20, 40, 80), (1, 2, 3, 4, 5)], ids=str)
def test_labels_of_a_logarithmic_axis_of_less_than_a_decade_have_room_between_them(places):
    rows = [{"n": n, "seconds": n, "against": against} for n in places for against in "abcde"]
    figure = lines(rows, x="n", y="seconds", panels="against", log_x=True, log_y=True, **TEXTS)
    with mpl.rc_context(STYLE):
        figure.draw_without_rendering()
        labels = [label for label in figure.axes[0].get_xticklabels(which="both") if label.get_text()]
        extents = sorted((label.get_window_extent().x0, label.get_window_extent().x1) for label in labels)
    gaps = [begin - end for (_, end), (begin, _) in pairwise(extents)]
    assert min(gaps) > 10  # Pixels, of 100 an inch: a digit.


def test_a_reference_is_drawn_dashed_beside_its_line():
    rows = [{"n": n, "seconds": n**1.1, "counted": float(n)} for n in (1, 2, 4)]
    (axis,) = lines(rows, x="n", y="seconds", reference="counted", log_x=True, log_y=True, **TEXTS).axes
    (dashed,) = [line for line in axis.lines if line.get_linestyle() == "--"]
    assert np.asarray(dashed.get_ydata()).tolist() == [1, 2, 4]
