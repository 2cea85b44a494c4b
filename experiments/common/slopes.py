"""Which powers of rate and scale does the probability of a step into the dead region follow, in its tail?"""

from itertools import pairwise
from typing import Any

import numpy as np

# A slope is that of the tail, and of frequencies that are known.
TAIL, LEAST_HITS = 0.02, 1000


def slope_is(row: dict[str, Any], slope: float) -> bool:
    """Return whether a fitted slope is that of a law, to a tenth and to its standard error."""
    return abs(row["slope"] - slope) <= max(0.1, 5 * row["standard_error"])


def slopes_of_tail(noise: str, expected: float | None, table: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the exponents of rate and scale in the frequency's tail, by least squares of the logarithms."""
    rows = [row for row in table if row["noise"] == noise and row["hits"] >= LEAST_HITS and row["frequency"] <= TAIL]
    law = {"rate": expected, "scale": expected and -expected}
    columns = np.log([[row["rate"], row["scale"], np.e] for row in rows])
    if len(rows) < 4 or np.linalg.matrix_rank(columns) < 3:
        nothing = dict.fromkeys(("slope", "standard_error", "looseness_min", "looseness_max"))
        reason = f"needs {LEAST_HITS} hits in 4 cells of the tail, of several rates and scales; more --steps"
        return [
            {"noise": noise, "of": of, **nothing, "expected": slope, "cells": len(rows), "reason": reason}
            for of, slope in law.items()
        ]
    frequencies = np.log([row["frequency"] for row in rows])
    found, *_ = np.linalg.lstsq(columns, frequencies)
    variance = np.sum((columns @ found - frequencies) ** 2) / (len(rows) - columns.shape[1])
    errors = np.sqrt(variance * np.diag(np.linalg.inv(columns.T @ columns)))
    looseness = [row["cantelli"] / row["frequency"] for row in rows]
    return [
        {"noise": noise, "of": of, "slope": float(slope), "standard_error": float(error)}
        | {"looseness_min": min(looseness), "looseness_max": max(looseness)}
        | {"expected": law[of], "cells": len(rows), "reason": "" if expected else "no power law"}
        for of, slope, error in zip(law, found, errors, strict=False)
    ]


def local_slopes(noise: str, table: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the slope between every two neighbouring distances, the cells of a distance taken together."""
    rows = [row for row in table if row["noise"] == noise]
    pooled = []
    for at in sorted({row["distance"] for row in rows}):
        alike = [row for row in rows if row["distance"] == at]
        hits, steps = sum(row["hits"] for row in alike), sum(row["steps"] for row in alike)
        if hits >= LEAST_HITS:
            pooled.append((at, hits / steps))
    return [
        {
            "noise": noise,
            "distance": float(np.sqrt(near * far)),
            "slope": float(np.log(low / high) / np.log(far / near)),
        }
        for (near, high), (far, low) in pairwise(pooled)
    ]
