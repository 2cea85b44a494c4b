"""bnjax: which terms of a loss get back through a normalizer, exactly."""

from typing import TYPE_CHECKING, Any

from bnjax import normalizers
from bnjax.blocking import BlockingReport, blocking, term_hessian
from bnjax.derivatives.estimated_diagonal import Probes
from bnjax.derivatives.heads import cross_entropy_head, logits_head
from bnjax.spectrum import SpectrumReport, spectrum

if TYPE_CHECKING:
    from bnjax.audit_report import AuditReport
    from bnjax.auditing import audit
    from bnjax.measurements import blocked_share

__version__ = "0.1.0"

__all__ = [
    "AuditReport",
    "BlockingReport",
    "Probes",
    "SpectrumReport",
    "audit",
    "blocked_share",
    "blocking",
    "cross_entropy_head",
    "logits_head",
    "normalizers",
    "spectrum",
    "term_hessian",
]


def __getattr__(name: str) -> Any:
    # What looks into models needs flax, which the rest does without.
    if name in ("AuditReport", "audit"):
        from bnjax import audit_report, auditing

        return audit_report.AuditReport if name == "AuditReport" else auditing.audit
    if name == "blocked_share":
        from bnjax.measurements import blocked_share

        return blocked_share
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
