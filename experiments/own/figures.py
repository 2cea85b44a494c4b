"""How do the layers of a model compare? What gets back through each, term by term, drawn from the audit's record."""

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# What is drawn as zero.
ROUNDING = 1e-12


def figures(results: dict[str, Any], config: dict[str, Any]) -> "dict[str, Figure]":
    """Draw what survives of every term, a line a layer, and what of it reaches the trunk's parameters."""
    last = max(row["epoch"] for row in results["table"])
    rows = [row for row in results["table"] if row["epoch"] == last]
    epochs = f"{last} epoch{'s' if last > 1 else ''}"
    training = f"{epochs} on {results['training_data']}" if last else "none"
    estimate = f"; diagonal and off_diagonal estimated from {config['probes']} products" if config["probes"] else ""
    untrained = "with the variables given" if config["variables"] else "before training"
    state = f"after {epochs}" if last else untrained
    caption = (
        f"{config['model']} {config['model_options']}; training: {training}; audited: {config['rows']} rows of "
        f"{results['data']}, seed {config['seed']}, in float64; statistics {config['statistics']}{estimate}"
    )
    drawn = {
        f"survival_{part}": _by_layer(
            [row for row in rows if row["part"] == part],
            "survival",
            label="survival, ‖S Jᵀ G‖ / ‖G‖",
            title=f"What gets back through each normalizer {state}: {part}",
            caption=caption,
        )
        for part in dict.fromkeys(row["part"] for row in rows)
    }
    drawn["trunk_gradients"] = _by_layer(
        [row for row in rows if "trunk_gradient_norm" in row],
        "trunk_gradient_norm",
        label="‖gradient‖ of all parameters before it",
        title=f"What of each term reaches the layers before, {state}",
        caption=caption,
    )
    return {name: figure for name, figure in drawn.items() if figure is not None}


def _by_layer(rows: list[dict[str, Any]], value: str, *, label: str, title: str, caption: str) -> "Figure | None":
    """Return the dots of all layers, from the input on; None where there is no number."""
    from bnjax.reporting.figures import dots

    known = [row for row in rows if row[value] is not None]
    if not known:
        return None
    without = [layer for layer in _layers(rows) if layer not in _layers(known)]
    if without:
        caption += f"; no gradient at the output of {', '.join(without)}"
    return dots(
        known,
        name="layer",
        value=value,
        series="term",
        title=title,
        caption=caption,
        name_label="normalizer",
        value_label=label,
        floor=_floor([row[value] for row in known]),
    )


def _layers(rows: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["layer"] for row in rows))


def _floor(values: list[float]) -> float | None:
    """Return the power of ten at which zeros stand apart from the smallest of the other values; None in one decade."""
    if min(values) > 0.1 * max(values):
        return None
    smallest = min((value for value in values if value > ROUNDING), default=ROUNDING)
    return max(ROUNDING, 10.0 ** math.floor(math.log10(smallest / 3)))
