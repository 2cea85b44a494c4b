"""The theorems as functions that return both sides and what rounding allows between them; of F2 the bounds alone."""

from bnjax.theorems.statement import Case, Comparison, Statement, draw_case
from bnjax.theorems.statements import STATEMENTS

__all__ = ["STATEMENTS", "Case", "Comparison", "Statement", "draw_case"]
