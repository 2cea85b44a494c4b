"""Exact derivatives of heads, sorted into terms and carried back through a normalizer; pure JAX, no flax."""

from bnjax.derivatives.estimated_diagonal import Probes
from bnjax.derivatives.expansion import ColumnHessian, Expansion, expand, hessian_at
from bnjax.derivatives.heads import LogitsHead, cross_entropy_head, logits_head
from bnjax.derivatives.low_rank import LowRankHessian, low_rank_hessian
from bnjax.derivatives.orders import order_gradients, taylor_coefficients
from bnjax.derivatives.piecewise_linear import is_piecewise_linear
from bnjax.derivatives.terms import PARTS, REMAINDER, SECOND_ORDER, TERM_PARTS, TERMS, RowHeads, Terms, terms
from bnjax.derivatives.transport import HessianOperator, pull_back, pulled_back

__all__ = [
    "PARTS",
    "REMAINDER",
    "SECOND_ORDER",
    "TERMS",
    "TERM_PARTS",
    "ColumnHessian",
    "Expansion",
    "HessianOperator",
    "LogitsHead",
    "LowRankHessian",
    "Probes",
    "RowHeads",
    "Terms",
    "cross_entropy_head",
    "expand",
    "hessian_at",
    "is_piecewise_linear",
    "logits_head",
    "low_rank_hessian",
    "order_gradients",
    "pull_back",
    "pulled_back",
    "taylor_coefficients",
    "terms",
]
