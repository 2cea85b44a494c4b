"""What does `experiments.filter_collapse` say of the claims of arXiv 2001.11216?"""

from typing import Any

from experiments.claims.collapse import PLACE, claims_of_shift
from experiments.claims.tested import claim_of_tests, comparisons, runs_told
from experiments.common.claim import COLLAPSE, Claim, verdict

KIND = ("optimizer", "learning_rate", "start")


def claims(results: dict[str, Any], config: dict[str, Any]) -> list[Claim]:
    """Return what was found of when filters are lost, and of what is said to keep them."""
    sentences = {
        "collapsed": "Post-shifted batch normalization keeps filters in training.",
        "test_accuracy": "Post-shifted batch normalization makes classification (of CIFAR-10) better.",
    }
    return (
        _lost_without_penalty(results, config) + _causes(results, config) + claims_of_shift(results, config, sentences)
    )


def _lost_without_penalty(results: dict[str, Any], config: dict[str, Any]) -> list[Claim]:
    """Return in how many kinds of run with batch normalization every seed lost filters; nothing without such runs."""
    rows = [row for row in results["table"] if row["normalizer"] == "batch_norm"]
    if not rows:
        return []
    lost: dict[tuple, list[bool]] = {}
    for run in results["runs"]:
        if run["normalizer"] == "batch_norm":
            lost.setdefault(tuple(run[key] for key in KIND), []).append(run["collapsed"] > 0)
    cases = [all(seeds) for seeds in lost.values()]
    most = max(rows, key=lambda row: row["collapsed"])
    return [
        Claim(
            paper=COLLAPSE,
            place=PLACE,
            claim="With batch normalization and ReLU it is common to lose filters, without a penalty that asks for it.",
            ours=f"every seed loses some in {sum(cases)} of {len(cases)} kinds of run; the largest share is "
            f"{most['collapsed']:.3f} ± {most['collapsed_std']:.3f} ({', '.join(str(most[key]) for key in KIND)})",
            n=runs_told(results, config),
            verdict=verdict(cases),
        )
    ]


def _causes(results: dict[str, Any], config: dict[str, Any]) -> list[Claim]:
    """Return what was found of rates, optimizers and beginnings; nothing if it was not of batch normalization."""
    if config["normalizers"][0] != "batch_norm":
        return []
    rates = config["learning_rates"]
    causes = (
        ("More filters are lost at larger learning rates.", max(rates), min(rates)),
        ("More filters are lost at adaptive rates (Adam, here at a tenth of the rate of SGD).", "adam", "sgd"),
        ("More filters are lost in fine-tuning than from scratch.", "fine_tuned", "scratch"),
    )
    return [
        claim
        for sentence, more, less in causes
        for claim in claim_of_tests(
            COLLAPSE, PLACE, sentence, comparisons(results, more, less, "collapsed"), results, config
        )
    ]
