"""Whatever is typed for the options of an experiment, it runs or is refused in words."""

import dataclasses
from collections.abc import Callable, Collection
from contextlib import redirect_stderr, redirect_stdout, suppress
from importlib import import_module
from io import StringIO
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from experiments.common.command import main
from experiments.common.options import Options
from tests.experiments.test_experiments import COLUMNS

Words = dict[type, list[str]]
WORDS: Words = {
    int: ["0", "-1", "1", "2", "3", "5", "4294967296", "1" * 30, "1e3", "2.5", "nan", "", "eins"],
    float: ["0", "-1", "0.5", "1", "30", "1e-300", "1e400", "nan", "inf", "", "eins"],
    str: ["", "x", "{}", "json:loads", "—"],
    Path: ["absent", "/dev/null", "Läufe 1", ""],
}


# What a small run can take, and what it can't.
SMALL: Words = {int: ["1", "2", "3", "5"], float: ["0", "1e-300", "0.5", "30", "1e30"]}


def words(annotation: Any, of_types: Words) -> st.SearchStrategy[list[str]]:
    """Return what may be typed for an option of a type: mostly what it takes, and nonsense."""
    choices = get_args(annotation)
    if annotation is bool:
        return st.just([])
    if annotation in of_types:
        return st.sampled_from(of_types[annotation]).map(lambda word: [word])
    if annotation is NoneType:
        return st.just(["None"])
    if get_origin(annotation) is Literal:
        return st.sampled_from([*choices, "nonsense"]).map(lambda word: [word])
    if get_origin(annotation) in (Union, UnionType):
        return st.one_of(*(words(choice, of_types) for choice in choices))
    assert get_origin(annotation) is tuple, annotation
    return st.lists(words(choices[0], of_types), max_size=3).map(lambda lists: [word for one in lists for word in one])


def arguments(config_type: type, of_types: Words, without: Collection[str]) -> st.SearchStrategy[list[str]]:
    """Return a few options of an experiment with their words."""
    types = get_type_hints(config_type)
    options = [
        words(types[field.name], of_types).map(lambda typed, name=field.name: [f"--{name.replace('_', '-')}", *typed])
        for field in dataclasses.fields(config_type)
        if field.name not in without
    ]
    chosen = st.lists(st.sampled_from(options), min_size=1, max_size=3, unique_by=id)
    return chosen.flatmap(lambda some: st.tuples(*some)).map(lambda lists: [word for one in lists for word in one])


def status_and_words(
    run: Callable[[Any], dict], config_type: type, typed: list[str], **options: Any
) -> tuple[int, str]:
    """Return how a run ends, and what it says of that."""
    said = StringIO()
    with redirect_stdout(StringIO()), redirect_stderr(said):
        try:
            main(run, config_type, name="experiments.demo", args=typed, **options)
        except SystemExit as ended:
            return int(str(ended.code)), said.getvalue().strip()
    return 0, said.getvalue().strip()


class Reached(Exception):
    """The options were taken."""


def reached(_: Any) -> dict:
    raise Reached


@pytest.mark.parametrize("name", COLUMNS)
@settings(max_examples=12)
@given(data=st.data())
def test_options_are_taken_or_refused_before_the_run(name, data, tmp_path_factory):
    config_type = import_module(name).Config
    typed = data.draw(arguments(config_type, WORDS, {"output"}))
    output = tmp_path_factory.mktemp("options") / "run"
    with suppress(Reached):
        status, said = status_and_words(reached, config_type, [*typed, "--output", str(output)])
        assert status == 2
        assert said
    assert not output.exists()


# Those of which a run takes two seconds; to look for a smaller example that fails would take minutes.
CHEAP = ("frozen_statistics", "polynomial_orders")


@pytest.mark.parametrize("name", CHEAP)
@settings(max_examples=4, phases=(Phase.generate,))
@given(data=st.data())
def test_a_small_run_leaves_its_record_or_is_refused_in_words(name, data, tmp_path_factory):
    module = import_module(f"experiments.{name}")
    common = {field.name for field in dataclasses.fields(Options)}
    typed = data.draw(arguments(module.Config, SMALL, common))
    output = tmp_path_factory.mktemp("options") / "run"
    options = {"figures": module.figures, "failures": module.failures}
    typed = ["--smoke", *typed, "--output", str(output)]
    status, said = status_and_words(module.run, module.Config, typed, **options)
    assert status in (0, 1, 2)
    assert (status == 0) == (said == "")
    assert (output / "result.json").exists() == (status != 2)
