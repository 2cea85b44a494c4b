"""Every version is stated once, or the same wherever it is stated again."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import bnjax

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REQUIREMENTS = [Requirement(line) for line in (*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"])]


def pinned(file: str) -> dict[str, str]:
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def test_the_oldest_versions_are_the_lower_bounds():
    bounds = {requirement.name: str(requirement.specifier) for requirement in REQUIREMENTS}
    assert {name: f">={version}" for name, version in pinned("constraints-oldest.txt").items()} == bounds


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda requirement: requirement.name)
def test_the_tested_set_has_a_version_within_the_bounds(requirement):
    assert requirement.specifier.contains(pinned("constraints.txt")[requirement.name])


def test_the_version_to_cite_is_that_of_the_library():
    cited = re.search(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert cited is not None
    assert cited[1] == bnjax.__version__
