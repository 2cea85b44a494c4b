"""What did a run compute, from which settings, with what, and where is it kept?

A run is kept as one file, `result.json`: the experiment, its config, where the numbers come from (versions,
device, dtype, seed, git commit, wall time) and its results. The file is strict JSON. It never holds NaN or
infinity, and a table's row that holds a null says why under `reason`.
"""

import csv
import hashlib
import json
import math
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bnjax.reporting.files import replacing, require_folder
from bnjax.reporting.shape import require_shape

RESULT_FILE = "result.json"

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Record:
    """One finished run, as it stands in `result.json`.

    NumPy and JAX scalars and arrays become numbers and nested lists, tuples become lists and paths become
    strings, so that a record just made equals the same record read again.

    Attributes:
        experiment: the dotted name of the module that ran, such as `experiments.hessian_blocking`.
        config: the settings of the run.
        provenance: what `provenance` collects; these entries stand at the top level of the file.
        results: the outcome; `table` is a list of flat rows, and all that the figures need is here too.

    Raises:
        ValueError: a number is NaN or infinite, or a table's row holds None without a `reason`.
        TypeError: something has no JSON form.

    Example:
        >>> import numpy as np
        >>> Record("experiments.demo", {}, {}, {"table": [{"order": np.int32(3)}]}).results
        {'table': [{'order': 3}]}
        >>> Record("experiments.demo", {}, {}, {"table": [{"survival": np.nan}]})
        Traceback (most recent call last):
            ...
        ValueError: results.table[0].survival is nan; use None and say why
    """

    experiment: str
    config: dict[str, Any]
    provenance: dict[str, Any]
    results: dict[str, Any]

    def __post_init__(self) -> None:
        for field in ("config", "provenance", "results"):
            object.__setattr__(self, field, _plain(dict(getattr(self, field)), field))
        reserved = {"experiment", "config", "results"} & set(self.provenance)
        if reserved:
            raise ValueError(f"provenance holds {sorted(reserved)}, which are other parts of the record; rename them")
        for name, rows in tables_of(self.results).items():
            _require_reasons(rows, f"results.{name}")


def provenance(
    *, dtype: str, seed: int, started: datetime, wall_time_s: float, devices: int = 1, repository: Path | None = None
) -> dict[str, Any]:
    """Collect where the numbers of a run come from.

    Args:
        dtype: the default floating-point type of the run; a network's parameters may have one of their own.
        seed: the seed of the run.
        started: the aware time at which the run started.
        wall_time_s: how long the run took, compilation included, in seconds.
        devices: on how many devices it ran.
        repository: a folder inside the git checkout whose commit is recorded; the working directory if None.

    Returns:
        `versions`, `device`, `dtype`, `seed`, `git_commit` (None with `git_commit_reason`, or a
        commit with `git_modified`), `command`, `started` (UTC, ISO 8601) and `wall_time_s`.
    """
    return {
        "versions": _versions(),
        "device": {**_device(), "used": devices},
        "dtype": dtype,
        "seed": seed,
        **_git(repository or Path.cwd()),
        "command": shlex.join(["python", *sys.orig_argv[1:]]),
        "started": started.astimezone(UTC).isoformat(timespec="seconds"),
        "wall_time_s": round(wall_time_s, 3),
    }


def write_record(directory: Path, record: Record) -> Path:
    """Write `result.json` into a folder: whole or not at all, and never over another run's result.

    Args:
        directory: the folder; made if it is missing.
        record: the record.

    Returns:
        The path of the file.

    Raises:
        FileExistsError: the folder holds a result already.
    """
    require_free(directory)
    path = directory / RESULT_FILE
    entries = {
        "experiment": record.experiment,
        "config": record.config,
        **record.provenance,
        "results": record.results,
    }
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        json.dump(entries, file, indent=1, allow_nan=False, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    return path


def read_record(directory: Path) -> Record:
    """Read the record in a directory again.

    Raises:
        FileNotFoundError: the folder holds no `result.json`.
        ValueError: the file is not a record (`bnjax.reporting.shape`); it names the file and what is wrong there.
    """
    path = directory / RESULT_FILE
    if not path.is_file():
        raise FileNotFoundError(f"no {RESULT_FILE} in {directory}; give the output folder of a finished run")
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        require_shape(entries)
        return Record(
            entries.pop("experiment"),
            entries.pop("config"),
            results=entries.pop("results"),
            provenance=entries,
        )
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not the record of a run: {error}; remove it") from error


def config_digest(config: Mapping[str, Any]) -> str:
    """Return the first 8 hex digits of the SHA-256 of a config's canonical JSON.

    Example:
        >>> config_digest({"rows": 64, "seed": 0}) == config_digest({"seed": 0, "rows": 64})
        True
    """
    canonical = json.dumps(_plain(config, "config"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:8]


def default_directory(experiment: str, config: Mapping[str, Any]) -> Path:
    """Return `results/<name>/<time>-<config digest>`, by the experiment's last part and a UTC time."""
    time = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    return Path("results") / experiment.rpartition(".")[2] / f"{time}-{config_digest(config)}"


def require_free(directory: Path) -> None:
    """Raise FileExistsError if the directory holds a result, NotADirectoryError if it is or lies below a file."""
    require_folder(directory)
    if (directory / RESULT_FILE).exists():
        raise FileExistsError(
            f"{directory} already holds the {RESULT_FILE} of a finished run, which is not overwritten; "
            "give another folder or remove that one"
        )


def tables_of(results: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return the entries of the results that are tables: non-empty lists of flat rows.

    Example:
        >>> tables_of({"table": [{"order": 1}], "matrix": [[1.0]], "failures": []})
        {'table': [{'order': 1}]}
    """
    return {name: value for name, value in results.items() if _is_table(value)}


def write_csv(path: Path, rows: Sequence[Row]) -> Path:
    """Write rows as a CSV file, whole or not at all; None becomes an empty cell.

    Args:
        path: the file.
        rows: flat rows; the columns are their keys, in the order of first appearance.

    Returns:
        The path of the file.
    """
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=column_names(rows), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def column_names(rows: Sequence[Row]) -> list[str]:
    """Return the keys of all rows, in the order of first appearance."""
    return list(dict.fromkeys(key for row in rows for key in row))


def _plain(value: Any, place: str) -> Any:
    """Return the JSON form of a value; `place` names it in errors."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{place} is {value}; use None and say why")
        return float(value)
    if isinstance(value, Mapping):
        wrong = [key for key in value if not isinstance(key, str)]
        if wrong:
            raise TypeError(f"{place} has the key {wrong[0]!r}; a record's keys are strings")
        return {key: _plain(entry, f"{place}.{key}") for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry, f"{place}[{index}]") for index, entry in enumerate(value)]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # NumPy and JAX scalars and arrays.
        return _plain(value.tolist(), place)
    raise TypeError(
        f"{place} is a {type(value).__name__}; a record holds numbers, strings, lists, dicts and arrays only"
    )


def _is_table(value: Any) -> bool:
    flat = str | bool | int | float | None
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(row, dict) and all(isinstance(cell, flat) for cell in row.values()) for row in value)
    )


def _require_reasons(rows: Sequence[Row], place: str) -> None:
    for index, row in enumerate(rows):
        missing = [key for key, cell in row.items() if cell is None and key != "reason"]
        reason = row.get("reason")
        if missing and not (isinstance(reason, str) and reason.strip()):
            raise ValueError(f'{place}[{index}].{missing[0]} is None; say why in a non-empty "reason" of the same row')


def _versions() -> dict[str, str]:
    packages = ("jax", "jaxlib", "flax", "numpy", "bnjax")
    return {"python": sys.version.split()[0], **{name: _version(name) for name in packages}}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _device() -> dict[str, Any]:
    import jax

    device = jax.devices()[0]
    count, cores = jax.device_count(), os.cpu_count()
    return {"platform": device.platform, "kind": device.device_kind, "count": count, "cores": cores}


def _git(repository: Path) -> dict[str, Any]:
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(repository), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    try:
        return {
            "git_commit": git("rev-parse", "--verify", "HEAD"),
            "git_modified": bool(git("status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        return {"git_commit": None, "git_commit_reason": said.strip().splitlines()[0]}
