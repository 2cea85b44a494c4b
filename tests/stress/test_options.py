"""Whatever is typed for the options of an experiment, it runs or is refused in words."""

import dataclasses
from contextlib import redirect_stderr, redirect_stdout, suppress
from importlib import import_module
from io import StringIO
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.common.command import main
from tests.experiments.test_experiments import COLUMNS

WORDS = {
    int: ["0", "-1", "1", "2", "3", "5", "4294967296", "1" * 30, "1e3", "2.5", "nan", "", "eins"],
    float: ["0", "-1", "0.5", "1", "30", "1e-300", "1e400", "nan", "inf", "", "eins"],
    str: ["", "x", "{}", "json:loads", "—"],
    Path: ["absent", "/dev/null", "Läufe 1", ""],
}


def words(annotation: Any) -> st.SearchStrategy[list[str]]:
    """Return what may be typed for an option of a type: mostly what it takes, and nonsense."""
    choices = get_args(annotation)
    if annotation is bool:
        return st.just([])
    if annotation in WORDS:
        return st.sampled_from(WORDS[annotation]).map(lambda word: [word])
    if annotation is NoneType:
        return st.just(["None"])
    if get_origin(annotation) is Literal:
        return st.sampled_from([*choices, "nonsense"]).map(lambda word: [word])
    if get_origin(annotation) in (Union, UnionType):
        return st.one_of(*map(words, choices))
    assert get_origin(annotation) is tuple, annotation
    return st.lists(words(choices[0]), max_size=3).map(lambda lists: [word for one in lists for word in one])


def arguments(config_type: type) -> st.SearchStrategy[list[str]]:
    """Return a few options of an experiment with their words."""
    types = get_type_hints(config_type)
    options = [
        words(types[field.name]).map(lambda typed, name=field.name: [f"--{name.replace('_', '-')}", *typed])
        for field in dataclasses.fields(config_type)
        if field.name != "output"
    ]
    chosen = st.lists(st.sampled_from(options), max_size=3, unique_by=id).flatmap(lambda some: st.tuples(*some))
    return chosen.map(lambda lists: [word for one in lists for word in one])


class Reached(Exception):
    """The options were taken."""


def reached(_: Any) -> dict:
    raise Reached


@pytest.mark.parametrize("name", COLUMNS)
@settings(max_examples=12)
@given(data=st.data())
def test_options_are_taken_or_refused_before_the_run(name, data, tmp_path_factory):
    config_type = import_module(name).Config
    typed = data.draw(arguments(config_type))
    output = tmp_path_factory.mktemp("options") / "run"
    said, status = StringIO(), 0
    with redirect_stdout(said), redirect_stderr(said), suppress(Reached):
        try:
            main(reached, config_type, name=name, args=[*typed, "--output", str(output)])
        except SystemExit as ended:
            status = ended.code
    assert (status, bool(said.getvalue().strip())) in [(0, False), (2, True)]
    assert not output.exists()
