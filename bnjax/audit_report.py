"""What was found of the terms of a model's loss at one of its normalizers?"""

import math
from dataclasses import dataclass, field

import jax
from jaxtyping import Array, Float

from bnjax.report import BlockingReport, finite_or_none


@jax.tree_util.register_dataclass
@dataclass(frozen=True, repr=False)
class AuditReport(BlockingReport):
    """A `BlockingReport` on a normalizer inside of a model; a pytree.

    Attributes:
        gradient_error: ‖`total_gradient` - actual‖ / ‖actual‖ at the normalizer's input, where the actual gradient is
            that of the model with all statistics live. Not 0 (to rounding) where statistics are held behind the layer:
            with 0.1 the terms are those of a gradient that lacks a tenth of the actual one; near 1 they say little of
            it. NaN where there is no actual gradient.
        fast_variance_error: the largest difference of what the layer returned, with the variance as `E[x²] - E[x]²`,
            from what it should, relative to the largest entry; None for a layer that takes it in two passes.
        trunk_gradients: term ↦ the gradient for every parameter that the normalizer's input depends on, by path; None
            where it was not asked for.
        layer: the path of the normalizer.
        statistics: "held" or "joint", what the statistics of other normalizers do when a row changes.
        held: the normalizers behind the layer whose statistics are held at those of the batch.
    """

    gradient_error: Float[Array, ""]
    fast_variance_error: Float[Array, ""] | None
    trunk_gradients: dict[str, dict[str, Array]] | None
    layer: str = field(metadata={"static": True})
    statistics: str = field(metadata={"static": True})
    held: tuple[str, ...] = field(metadata={"static": True})

    @property
    def place(self) -> str:
        """What the gradients get back through, for titles."""
        return f"{self.layer} ({self.normalizer})"

    def to_rows(self) -> list[dict]:
        """Return a flat row for each term and part; with trunk gradients their norm, for the total."""
        rows = [{"layer": self.layer, **row} for row in super().to_rows()]
        if self.trunk_gradients is None:
            return rows
        norms = {term: _norm(gradients) for term, gradients in self.trunk_gradients.items()}
        return [{**row, "trunk_gradient_norm": norms[row["term"]] if row["part"] == "total" else None} for row in rows]

    def to_dict(self) -> dict:
        """Return the report as plain numbers: the whole loss, the definition, and the rows under `table`."""
        fast = self.fast_variance_error
        return {
            "layer": self.layer,
            "statistics": self.statistics,
            "held": list(self.held),
            "gradient_error": finite_or_none(self.gradient_error),
            "fast_variance_error": None if fast is None else float(fast),
            **super().to_dict(),
        }

    def __repr__(self) -> str:
        """Return a short description; `print` shows the table."""
        return f"<AuditReport of {self.layer}: print() it, .terms, .to_rows(), .to_dict(), .plot()>"

    def _caption(self) -> str:
        notes = [super()._caption(), self._definition()]
        if self.fast_variance_error is not None:
            notes.append(
                "the layer takes the fast variance, E[x²] - E[x]², which changes its output by "
                f"{float(self.fast_variance_error):.2g} of the largest entry"
            )
        return "; ".join(notes)

    def _definition(self) -> str:
        if self.statistics == "joint":
            return "all statistics live, expanded over the whole batch at once"
        if not self.held:
            return "nothing behind the layer takes statistics of the batch"
        held = f"statistics of {', '.join(self.held)} behind it held"
        if math.isnan(float(self.gradient_error)):
            return held
        return (
            f"{held}: gradient_error {float(self.gradient_error):.2g}, how far the gradient at its input is off the "
            "actual one, relative to that (0: not at all)"
        )


def _norm(gradients: dict[str, Array]) -> float:
    return float(sum((abs(leaf) ** 2).sum() for leaf in gradients.values())) ** 0.5
