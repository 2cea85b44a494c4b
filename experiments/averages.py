"""What do several runs of one kind have in common? Their mean and standard deviation."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def over_seeds(rows: Sequence[dict[str, Any]], by: Sequence[str], metrics: Sequence[str]) -> list[dict[str, Any]]:
    """Return mean and standard deviation of the metrics over all rows that agree in the keys `by`.

    A metric is averaged over the rows in which it is not None; where there is none, mean and deviation are None.

    Returns:
        A row for each group, in the order of first appearance: the keys, each metric and `<metric>_std` (population
        standard deviation), and `seeds`, the number of rows.
    """
    groups: dict[tuple, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in by), []).append(row)
    averages = []
    for group, alike in groups.items():
        row: dict[str, Any] = dict(zip(by, group, strict=True))
        for metric in metrics:
            values = [run[metric] for run in alike if run[metric] is not None]
            row[metric] = float(np.mean(values)) if values else None
            row[f"{metric}_std"] = float(np.std(values)) if values else None
        averages.append({**row, "seeds": len(alike)})
    return averages
