"""Has what is read the shape of a record? As far as pages and summaries count on it."""

import shlex
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

_TEXT = {"type": "string"}
_TEXTS = {"type": "array", "items": _TEXT}
_CLAIM = {
    "type": "object",
    "required": ["paper", "claim", "verdict"],
    "properties": dict.fromkeys(("paper", "place", "claim", "verdict", "ours", "n"), _TEXT),
}
_DEVICE = {
    "type": "object",
    "required": ["platform", "kind"],
    "properties": {
        "platform": _TEXT,
        "kind": _TEXT,
        "used": {"type": "integer"},
        "cores": {"type": ["integer", "null"]},
    },
}
# In the words of https://json-schema.org; what is not named may be there, and be anything.
SCHEMA = {
    "type": "object",
    "required": ["experiment", "config", "results"],
    "properties": {
        "experiment": _TEXT,
        "config": {"type": "object"},
        "command": {"type": "string", "format": "command line"},
        "started": _TEXT,
        "wall_time_s": {"type": "number"},
        "device": _DEVICE,
        "git_commit": {"type": ["string", "null"]},
        "results": {
            "type": "object",
            "properties": {"claims": {"type": "array", "items": _CLAIM}, "failures": _TEXTS, "notes": _TEXTS},
        },
    },
}


def require_shape(entries: Any) -> None:
    """Raise ValueError, with the place, if the entries of a file do not have the shape `SCHEMA`.

    Example:
        >>> require_shape({"experiment": "experiments.demo", "config": {}, "results": {"failures": "broken"}})
        Traceback (most recent call last):
            ...
        ValueError: results.failures: 'broken' is not of type 'array'
    """
    from jsonschema.exceptions import best_match

    error = best_match(_validator().iter_errors(entries))
    if error is not None:
        raise ValueError(f"{error.json_path.removeprefix('$.')}: {error.message}")


@cache
def _validator() -> "Validator":
    from jsonschema import Draft202012Validator, FormatChecker

    formats = FormatChecker(formats=())
    formats.checks("command line", raises=ValueError)(_can_be_split)
    return Draft202012Validator(SCHEMA, format_checker=formats)


def _can_be_split(command: Any) -> bool:
    """Return True, or raise ValueError of a quotation that is never closed; what is no text has another fault."""
    return not isinstance(command, str) or isinstance(shlex.split(command), list)
