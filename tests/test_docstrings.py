"""What is public says what it takes and what it raises, itself or where its docstring refers to."""

import importlib
import inspect
import pkgutil
import re
from typing import Any

from flax import linen as nn

import bnjax

ROOMS = ["bnjax", *(module.name for module in pkgutil.walk_packages(bnjax.__path__, "bnjax.") if module.ispkg)]
PUBLIC = {
    f"{room}.{name}": found
    for room in ROOMS
    for name in importlib.import_module(room).__all__
    if inspect.isfunction(found := getattr(importlib.import_module(room), name)) or inspect.isclass(found)
}
BY_NAME = {name.rpartition(".")[2]: found for name, found in PUBLIC.items()}
# Flax gives them to every linen module.
OF_MODULES = {"parent", "name"}


def described(found: Any) -> str:
    """Return the docstring, and those of the functions and classes that it names in backticks."""
    own = inspect.getdoc(found) or ""
    known = BY_NAME | vars(inspect.getmodule(inspect.unwrap(found)))
    named = [known.get(name) for name in re.findall(r"`(\w+)[`(]", own)]
    return "\n".join([own, *(inspect.getdoc(one) or "" for one in named if callable(one))])


def arguments(found: Any) -> set[str]:
    """Return what a caller gives: a function's parameters, a class's own fields."""
    if inspect.isfunction(found):
        return set(inspect.signature(found).parameters)
    fields = {name for name in inspect.get_annotations(found) if not name.startswith("_")}
    return fields - OF_MODULES if issubclass(found, nn.Module) else fields


def test_every_public_function_and_class_has_a_docstring():
    assert len(PUBLIC) > 150
    assert not [name for name, found in PUBLIC.items() if not found.__doc__]


def test_every_argument_of_what_is_public_is_described():
    # One row's `label` describes the `labels` of all.
    assert not [
        f"{name}: {argument}"
        for name, found in PUBLIC.items()
        for argument in arguments(found)
        if not re.search(rf"\b{argument.removesuffix('s')}", described(found), re.IGNORECASE)
    ]


def test_public_functions_that_raise_say_what():
    assert not [
        name
        for name, found in PUBLIC.items()
        if inspect.isfunction(found)
        and re.search(r"^ +raise ", inspect.getsource(inspect.unwrap(found)), re.MULTILINE)
        and not re.search(r"Raise|raise|refuse|errors", described(found))
    ]
