"""Which question does an experiment answer? The first line of its module, read without running it."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("experiments.", "benchmarks.")


def question_of(experiment: str) -> str:
    """Return the first line of an experiment's or benchmark's module; the name itself if it is none of this project.

    Example:
        >>> question_of("experiments.hessian_blocking")
        'Which terms of the loss get back through a normalizer, in a network trained on real digits?'
    """
    source = ROOT.joinpath(*experiment.split(".")).with_suffix(".py")
    if not (experiment.startswith(ROOMS) and source.is_file()):
        return experiment
    return (ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or experiment).splitlines()[0]
