import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import jax
import pytest
from flax import linen as nn
from flax.serialization import msgpack_serialize

from tests.experiments.own.folder import INPUTS, write_own_files

# Leaves the record of a run, as `experiments.common.command.main` does, but imports nothing that takes time.
LEAVES_A_RECORD = """
import json, shlex, sys
from pathlib import Path

folder = Path(sys.argv[sys.argv.index("--output") + 1])
folder.mkdir()
entries = {
    "experiment": "experiments.NAME",
    "config": {},
    "command": shlex.join(["python", *sys.orig_argv[1:]]),
    "started": "2026-05-04T03:02:01+00:00",
    "wall_time_s": 130.4,
    "git_commit": None,
    "device": {"platform": "cpu", "kind": "cpu", "count": 1, "used": 1, "cores": 2},
    "results": RESULTS,
}
(folder / "result.json").write_text(json.dumps(entries))
print("its table")
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that makes `python -m experiments.<name>` a tiny program: leaves results, or is given."""
    package = tmp_path / "experiments"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.chdir(tmp_path)  # What `-m` finds first.

    def make(name: str, program: str = LEAVES_A_RECORD, **results: Any) -> None:
        kept = {"table": [{"loss": 1.0}], "failures": [], **results}
        (package / f"{name}.py").write_text(program.replace("NAME", name).replace("RESULTS", repr(kept)))

    return make


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with files of a user's own (`own.folder`), whose module can be imported."""
    write_own_files(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_nets", raising=False)
    return tmp_path


@pytest.fixture
def variables(folder: Path) -> tuple[nn.Module, Any]:
    """Return the model `Net` of the folder and its variables, which `weights.msgpack` in it holds."""
    model = import_module("own_nets").Net()
    drawn = jax.jit(model.init)(jax.random.key(3), INPUTS)
    (folder / "weights.msgpack").write_bytes(msgpack_serialize({**drawn, "step": 3}))
    return model, drawn
