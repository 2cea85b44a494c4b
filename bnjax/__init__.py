"""bnjax: which terms of a loss get back through a normalizer, exactly."""

from bnjax import normalizers
from bnjax.blocking import BlockingReport, blocking, term_hessian
from bnjax.derivatives.heads import cross_entropy_head, logits_head
from bnjax.spectrum import SpectrumReport, spectrum

__version__ = "0.1.0"

__all__ = [
    "BlockingReport",
    "SpectrumReport",
    "blocking",
    "cross_entropy_head",
    "logits_head",
    "normalizers",
    "spectrum",
    "term_hessian",
]
