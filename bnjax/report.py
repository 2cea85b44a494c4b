"""What was found of the terms of a loss behind a normalizer? The numbers, and how they are printed and drawn."""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import jax
from jaxtyping import Array, Float

from bnjax.derivatives.terms import REMAINDER, SECOND_ORDER, TERMS
from bnjax.parts import SplitPart

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOTHING_ARRIVES = (
    "no gradient at the normalizer's output: its scale, or one behind it, may be 0, as where a residual "
    "network starts; train first"
)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, repr=False)
class BlockingReport:
    """What each term of the summed loss sends back through a normalizer; a pytree.

    Attributes:
        terms: `gradient`, `diagonal`, `off_diagonal` and `remainder`, each with `.shared` and `.individual` (not the
            remainder). Their input gradients add up to `total_gradient`.
        loss: Σ_i ℓ_i(ŷ_i), a sum over the rows.
        value: Σ_i ℓ_i(c), the term without gradient; it and the four terms' values add up to `loss`.
        total_gradient: ∂L/∂X, differentiated as a whole.
        total_survival: the survival of the whole gradient.
        normalizer: the normalizer's name.
        estimated_from: from how many products with the Hessian of each row `diagonal` and `off_diagonal` are
            estimated; None where they are exact. All of their numbers are estimates then, and the survivals alone have
            intervals. Values and gradients are means of samples, and add up to the exact sums; norms and survivals
            are those without the samples' noise (`bnjax.estimated_parts`).
    """

    terms: dict[str, SplitPart]
    loss: Float[Array, ""]
    value: Float[Array, ""]
    total_gradient: Float[Array, "n ..."]
    total_survival: Float[Array, ""]
    normalizer: str = field(metadata={"static": True})
    estimated_from: int | None = field(metadata={"static": True})

    def to_rows(self) -> list[dict]:
        """Return a flat row for each term and part; where some are `estimated`, it says which."""
        return [
            {"normalizer": self.normalizer, "term": term, **self._mark(term), **row}
            for term in TERMS
            for row in self.terms[term].to_rows()
        ]

    def to_dict(self) -> dict:
        """Return the report as plain numbers: the whole loss, and the rows under `table`."""
        return {
            **whole_loss(self.normalizer, self.total_gradient, self.loss, self.value),
            "total_survival": finite_or_none(self.total_survival),
            **({} if self.estimated_from is None else {"estimated_from": self.estimated_from}),
            "table": self.to_rows(),
        }

    def __repr__(self) -> str:
        """Return a short description; `print` shows the table."""
        return f"<BlockingReport of {self.normalizer}: print() it, .terms, .to_rows(), .to_dict(), .plot()>"

    def __str__(self) -> str:
        """Return the report as a table."""
        from bnjax.reporting.tables import format_table

        return format_table(
            [_printed(row) for row in self.to_rows()],
            title=f"What gets back through {self.place}",
            caption=self._caption(),
        )

    @property
    def place(self) -> str:
        """What the gradients get back through, for titles."""
        return self.normalizer

    def _caption(self) -> str:
        survival = float(self.total_survival)
        survives = f"of the whole gradient survives {survival:.3g}" if survival == survival else NOTHING_ARRIVES
        if self._is_remainder_alone():
            survives += (
                "; all is remainder: the expansion point may lie on the head's kinks, give another expansion_point"
            )
        return (
            f"{batch_line(self.total_gradient)}; loss (sum) {float(self.loss):.6g}, of which "
            f"{float(self.value):.6g} at the expansion point; {survives}{self._estimate()}"
        )

    def _mark(self, term: str) -> dict[str, bool]:
        return {} if self.estimated_from is None else {"estimated": term in SECOND_ORDER}

    def _estimate(self) -> str:
        """Say what is not exact."""
        if self.estimated_from is None:
            return ""
        return (
            f"; {' and '.join(SECOND_ORDER)}, their values and gradients too, estimated from {self.estimated_from} "
            "products with the Hessian of each row; 95 % confidence intervals reach below and above their survivals"
        )

    def _is_remainder_alone(self) -> bool:
        return [name for name, part in self.terms.items() if not math.isnan(float(part.survival))] == [REMAINDER]

    def plot(self) -> "Figure":
        """Return bars of each part's survival, a matplotlib figure."""
        from bnjax.reporting.figures import survival_bars

        bars = [
            {key: row[key] for key in ("term", "survival", "reason")}
            | {"part of the term": row["part"], "spread": _whiskers(row)}
            for row in self.to_rows()
        ]
        has_none = math.isnan(float(self.total_survival))
        return survival_bars(
            bars,
            by="part of the term",
            title=f"What gets back through {self.place}",
            spread="spread",
            caption=batch_line(self.total_gradient) + (f"; {NOTHING_ARRIVES}" if has_none else "") + self._estimate(),
        )


def whole_loss(normalizer: str, total_gradient: Array, loss: Array, value: Array) -> dict:
    """Return what every report has of the whole loss, as plain numbers."""
    return {
        "normalizer": normalizer,
        "shape": list(total_gradient.shape),
        "dtype": str(total_gradient.dtype),
        "loss": float(loss),
        "value": float(value),
    }


def batch_line(x: Float[Array, "n ..."]) -> str:
    """Return the rows of a batch, their shape and dtype, for captions."""
    rows, *shape = x.shape
    return f"n = {rows} rows of shape {tuple(shape)}, {x.dtype}"


def finite_or_none(value: Array) -> float | None:
    """Return a number as JSON can hold it: None for what does not exist."""
    return float(value) if math.isfinite(float(value)) else None


def _printed(row: dict) -> dict:
    """Return a row without the title's words, its interval as what is below and above the survival.

    The ends of a narrow interval read as its middle does at three digits.
    """
    reach = _whiskers(row) or (None, None)
    ends = {"survival_low": ("below", reach[0]), "survival_high": ("above", reach[1])}
    return dict(ends.get(name, (name, row[name])) for name in row if name not in ("layer", "normalizer"))


def _whiskers(row: dict) -> tuple[float, float] | None:
    """Return how far the interval of a row's survival reaches below and above it."""
    if row["survival"] is None or row.get("survival_low") is None:
        return None
    return row["survival"] - row["survival_low"], row["survival_high"] - row["survival"]
