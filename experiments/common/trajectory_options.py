"""How is a trajectory trained, and how often is it measured?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from experiments.common.networks import NormalizerName
from experiments.common.stretches import StretchOptions


@dataclass(frozen=True)
class TrajectoryOptions(StretchOptions):
    """How the trajectory is trained and how often it is measured."""

    least: ClassVar[Mapping[str, int]] = {**StretchOptions.least, "lanczos_steps": 2}

    normalizers: tuple[NormalizerName, ...] = ("none", "batch_norm")
    """The normalizers to compare."""
    step_range: tuple[float, float] = (0.5, 4.0)
    """The smallest and the largest step along the gradient, in learning rates."""
    spectrum_every: int = 5
    """Stretches between two measurements of the Hessian's spectrum."""
    lanczos_steps: int = 10
    """Products with the Hessian for its spectrum, and as many for its trace."""

    def __post_init__(self) -> None:
        """Check that the step sizes go from a positive one to a larger one."""
        super().__post_init__()
        if not 0 < self.step_range[0] < self.step_range[1]:
            raise ValueError(
                f"--step-range needs to go from above 0 to a larger number, got {' '.join(map(str, self.step_range))}"
            )
