"""Which options does every experiment and every benchmark take, and which values of them are refused?"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from jax.sharding import Mesh

from bnjax.devices import over_rows, row_mesh
from bnjax.reporting.records import config_digest

# The metadata of an option that no training depends on: runs that differ in it alone go on from the same checkpoints.
BESIDE_TRAINING = {"beside_training": True}


@dataclass(frozen=True)
class Options:
    """The options of every experiment; each experiment's `Config` adds its own."""

    output: Path | None = field(default=None, metadata=BESIDE_TRAINING)
    """Folder for result.json, tables and figures; results/<name>/<time>-<config digest> if not given."""
    seed: int = 0
    """Seed of everything random."""
    smoke: bool = False
    """A run of seconds, compiled without optimization, at sizes that only show that everything works."""
    preset: Literal["default", "paper"] = field(default="default", metadata=BESIDE_TRAINING)
    """The sizes to begin with: of minutes on a laptop, or as published; options given beside it win."""

    devices: int = 1
    """Devices over which the rows of every batch are spread; a CPU is split into so many."""

    least: ClassVar[Mapping[str, int]] = {"seed": 0}
    above_zero: ClassVar[tuple[str, ...]] = ("learning_rate", "learning_rates")
    of_any_sign: ClassVar[tuple[str, ...]] = ("expansion_point",)
    counts_of_rows: ClassVar[tuple[str, ...]] = ("batch_size", "rows")

    def __post_init__(self) -> None:
        """Check that numbers are in range, no list is empty or repeats a value, the seeds fit, and rows divide.

        Whole numbers are counts, from 1 or `least` on, below 2**32; others are finite and, but for those `of_any_sign`,
        not negative, those `above_zero` not 0 either.
        """
        for option in dataclasses.fields(self):
            value, name = getattr(self, option.name), option.name.replace("_", "-")
            if type(value) is int and not (least := self.least.get(option.name, 1)) <= value < 2**32:
                limit = f"at least {least}" if value < least else "below 2**32"
                raise ValueError(f"--{name} needs to be {limit}, got {value}")
            values = value if isinstance(value, tuple) else (value,)
            came, numbers = " ".join(map(str, values)), [number for number in values if isinstance(number, float)]
            least, needed = (-math.inf, "") if option.name in self.of_any_sign else (0, " and not negative")
            if not all(math.isfinite(number) and number >= least for number in numbers):
                raise ValueError(f"--{name} needs to be finite{needed}, got {came}")
            if option.name in self.above_zero and 0 in numbers:
                raise ValueError(f"--{name} needs to be positive, got {came}")
            if isinstance(value, tuple) and (not value or len(set(value)) < len(value)):
                raise ValueError(f"--{name} needs at least one value and none twice, got {came}")
        last = self.seed + getattr(self, "seeds", 1) - 1
        if last >= 2**32:
            raise ValueError(f"--seed needs to be below 2**32, and so every further seed, got {self.seed} to {last}")
        counts = {name.replace("_", "-"): getattr(self, name, 0) for name in self.counts_of_rows}
        uneven = {name: count for name, count in counts.items() if count % self.devices}
        if uneven:
            above = [f"--{name} {count + -count % self.devices}" for name, count in uneven.items()]
            raise ValueError(
                f"--devices {self.devices} needs a multiple of it for --{' and --'.join(uneven)}, got "
                f"{' and '.join(map(str, uneven.values()))}; take {' '.join(above)}, or fewer devices"
            )

    @property
    def mesh(self) -> Mesh | None:
        """The devices of `--devices`; None for one, where nothing is spread."""
        return None if self.devices == 1 else row_mesh(self.devices)

    def over_devices(self, batch: Any, *, axis: int = 0) -> Any:
        """Return the arrays of a batch with their rows, along an axis, spread over `--devices`."""
        return over_rows(batch, self.mesh, axis=axis)

    def smoke_sized(self) -> Self:
        """Return these options at the sizes of `--smoke`; options given on the command line beside it win."""
        return self

    def paper_sized(self) -> Self:
        """Return these options at the published sizes of `--preset paper`; the defaults where they are those."""
        return self

    def checkpoints_of(self, name: str) -> Path | None:
        """Return the folder of one training run in `output`; the same options give the same, so that it resumes."""
        if self.output is None:
            return None
        beside = {option.name for option in dataclasses.fields(self) if "beside_training" in option.metadata}
        options = {key: value for key, value in dataclasses.asdict(self).items() if key not in beside}
        return self.output / "runs" / config_digest(options) / name
