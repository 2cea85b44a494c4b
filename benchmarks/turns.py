"""How are two implementations timed fairly? Warmed up, then in turns, so that both meet the same machine."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from bnjax.reporting.records import Row
from experiments.common.options import Options

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Result = TypeVar("Result")
TORCH = "torch"
# Why there is no peer.
NO_TORCH = "PyTorch is not installed: pip install -e '.[bench]'"
# What `ratios` measures of a peer; nulls where there is none.
MEASURED = ("peer_s", "ratio", "smallest_ratio", "largest_ratio")


@dataclass(frozen=True)
class TimingOptions(Options):
    """The options of a benchmark that times one device."""

    def __post_init__(self) -> None:
        """Check that it is one device."""
        super().__post_init__()
        if self.devices > 1:
            raise ValueError(
                f"--devices needs to be 1, the one that is timed, got {self.devices}; benchmarks.scaling times several"
            )


def in_turns(
    implementations: Mapping[str, Callable[[], Result]], repeats: int
) -> tuple[dict[str, list[float]], dict[str, Result]]:
    """Warm every implementation up, then time them in turns; return their seconds and first results."""
    results = {name: implementation() for name, implementation in implementations.items()}
    seconds: dict[str, list[float]] = {name: [] for name in implementations}
    for _ in range(repeats):
        for name, implementation in implementations.items():
            begin = time.perf_counter()
            implementation()
            seconds[name].append(time.perf_counter() - begin)
    return seconds, results


def ratios(ours: list[float], theirs: list[float]) -> dict[str, float | None]:
    """Return the peer's median seconds, and median, smallest and largest of peer / ours over the turns."""
    by_turn = [their / our for their, our in zip(theirs, ours, strict=True)]
    numbers = (statistics.median(theirs), statistics.median(by_turn), min(by_turn), max(by_turn))
    return dict(zip(MEASURED, numbers, strict=True))


def seconds_beside(rows: Sequence[Row], *, title: str, caption: str) -> "Figure":
    """Draw the seconds of bnjax and its peers for every `case` of a table with `ours_s`, `peer` and `peer_s`."""
    from bnjax.reporting.figures import dots

    # A case with several peers has ours in each of their rows.
    seconds = {
        (row["case"], what): row[key]
        for row in rows
        for what, key in (("bnjax", "ours_s"), (row["peer"], "peer_s"))
        if row[key] is not None
    }
    return dots(
        [{"case": case, "what": what, "seconds": value} for (case, what), value in seconds.items()],
        name="case",
        value="seconds",
        series="what",
        name_label="what is timed",
        value_label="seconds",
        floor=1e-4,
        title=title,
        caption=caption,
    )
