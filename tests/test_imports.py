"""Imports go one way: normalizers → derivatives → everything that builds on them → experiments."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import bnjax

PACKAGE = Path(__file__).parents[1] / "bnjax"
EXPERIMENTS = PACKAGE.with_name("experiments")
# For each room those of the same package that it may import.
OF_LIBRARY = {
    "normalizers": {"normalizers", "integers"},
    "derivatives": {"derivatives", "normalizers", "integers"},
    "models": {"models", "boxes", "normalizers", "row_arguments"},
    "data": {"data", "boxes", "integers"},
    "training": {"training", "compilation", "data", "devices", "reporting", "integers"},
    "measurements": {"measurements", "compilation", "derivatives", "devices", "models", "normalizers"},
    "curvature": {"curvature", "compilation", "derivatives", "training", "normalizers", "integers"},
    "reporting": {"reporting"},
}
OF_EXPERIMENTS = {"common": {"common"}, "claims": {"claims", "common"}, "own": {"own", "common"}}
MAY_IMPORT = {
    package / room: others
    for package, rooms in {PACKAGE: OF_LIBRARY, EXPERIMENTS: OF_EXPERIMENTS}.items()
    for room, others in rooms.items()
}


def imports(source: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source} has a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_roots(room: Path) -> set[str]:
    return {name.split(".")[0] for source in room.rglob("*.py") for name in imports(source)}


@pytest.mark.parametrize("room", MAY_IMPORT, ids=lambda room: f"{room.parent.name}.{room.name}")
def test_a_room_imports_only_the_rooms_before_it(room):
    names = {name for source in room.rglob("*.py") for name in imports(source)}
    rooms = {name.split(".")[1] for name in names if name.startswith(f"{room.parent.name}.")}
    assert names
    assert rooms <= MAY_IMPORT[room]


def test_every_room_of_the_experiments_has_its_place():
    assert {folder.parent.name for folder in EXPERIMENTS.glob("*/__init__.py")} == OF_EXPERIMENTS.keys()


@pytest.mark.parametrize("room", ["normalizers", "derivatives"])
def test_the_core_is_pure_jax(room):
    assert "flax" not in imported_roots(PACKAGE / room)


def test_the_library_knows_no_experiments():
    assert not imported_roots(PACKAGE) & {"experiments", "benchmarks", "tests"}


def test_what_needs_flax_is_there_by_name():
    assert {"audit", "AuditReport", "blocked_share"} <= set(dir(bnjax))
    assert all(hasattr(bnjax, name) for name in bnjax.__all__)


def test_the_core_and_the_top_level_import_without_flax():
    code = "import sys; sys.modules['flax'] = None; import bnjax.normalizers, bnjax.derivatives, bnjax"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PACKAGE.parent)
