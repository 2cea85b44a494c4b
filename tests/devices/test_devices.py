"""Where the rows of a batch lie changes no number: on one device, on 8, or with two processes."""

import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from bnjax.devices import over_rows, own_rows_over, row_mesh
from tests.devices.measured import NUMBERS, REFUSALS, UNEVEN, keys

ROOT = Path(__file__).parents[2]
TIME_LIMIT_S = 400
TOLERANCE = 1e-12


def run_to_the_end(*commands: list[str]) -> None:
    """Run processes beside one another; none of them outlives the call."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.devices.measured", *command],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for command in commands
    ]
    try:
        for process in processes:
            printed, _ = process.communicate(timeout=TIME_LIMIT_S)
            assert process.returncode == 0, printed
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> dict[str, dict[str, np.ndarray]]:
    """Return by the place of the rows what was measured there."""
    folder, port = tmp_path_factory.mktemp("measured"), str(free_port())
    run_to_the_end([str(folder)])
    run_to_the_end(*[[str(folder), number, port] for number in ("0", "1")])
    return {file.stem: dict(np.load(file)) for file in folder.glob("*.npz")}


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("place", ["eight", "two-0", "two-1"])
def test_rows_on_several_devices_give_the_numbers_of_one(name, place, measured):
    expected = {key: value for key, value in measured["one"].items() if key.startswith(f"{name}/")}
    assert expected
    assert {key for key in measured[place] if key.startswith(f"{name}/")} == set(expected)
    for key, value in expected.items():
        assert value.dtype == np.float64 or np.issubdtype(value.dtype, np.integer), key
        size = max(1.0, np.max(np.abs(np.nan_to_num(value))))
        np.testing.assert_allclose(measured[place][key], value, rtol=0, atol=TOLERANCE * size, err_msg=key)


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("place", ["eight", "two-0", "two-1"])
def test_what_is_refused_on_one_device_is_refused_on_several_in_the_same_words(refusal, place, measured):
    assert "needs" in str(measured["one"][refusal])
    assert str(measured[place][refusal]) == str(measured["one"][refusal])


@pytest.mark.parametrize("what", UNEVEN)
def test_rows_that_do_not_divide_are_refused_with_the_remedy(what, measured):
    assert re.search(UNEVEN[what], str(measured["eight"][what]))


@pytest.mark.parametrize("name", ["blocking", "spectrum", "audit", "training"])
@pytest.mark.parametrize(("place", "devices"), [("one", 1), ("eight", 8), ("two-0", 2), ("two-1", 2)])
def test_what_belongs_to_a_row_stays_where_the_row_is(name, place, devices, measured):
    assert measured[place][f"pieces of {name}"] == devices


def test_rows_on_a_mesh_of_explicit_axes_give_the_numbers_of_one_device(measured):
    found, expected = measured["eight"]["blocking of explicit axes/"], measured["one"]["blocking/.total_gradient"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


def test_a_compiled_step_on_a_mesh_of_explicit_axes_has_the_shares_of_one_device(measured):
    expected = {key: value for key, value in measured["one"].items() if key.startswith("blocked_share/")}
    for key, value in expected.items():
        found = measured["eight"][key.replace("blocked_share/", "blocked_share of explicit axes/")]
        np.testing.assert_allclose(found, value, rtol=0, atol=TOLERANCE, err_msg=key)


@pytest.mark.parametrize("place", ["two-0", "two-1"])
def test_random_keys_of_two_processes_are_those_of_one(place, measured):
    np.testing.assert_array_equal(measured[place]["keys/"], jax.random.key_data(keys()))


@pytest.mark.parametrize("count", [2.0, "2", True])
@pytest.mark.usefixtures("signatures_are_not_checked")
def test_a_number_of_devices_that_is_no_integer_is_refused(count):
    with pytest.raises(TypeError, match=f"needs to be an integer, or None for all, got {count!r}"):
        row_mesh(count)


def test_no_devices_are_refused():
    with pytest.raises(ValueError, match=r"from 1 to .* got 0; a CPU is split by"):
        row_mesh(0)


@pytest.mark.usefixtures("signatures_are_not_checked")
def test_rows_of_processes_on_no_mesh_of_rows_are_refused():
    others: tuple[Any, ...] = (None, "rows", Mesh(np.array(jax.devices()[:1]), ("x",)))
    message = r"mesh needs to be one of bnjax.devices.row_mesh\(\), with the one axis 'rows', got"
    for mesh in others:
        with pytest.raises(TypeError, match=message):
            own_rows_over(np.zeros(4), mesh)
    with pytest.raises(TypeError, match=message):
        over_rows(np.zeros(4), others[-1])


def test_an_axis_counted_from_the_end_is_refused():
    with pytest.raises(ValueError, match="from 0 on, got -1"):
        over_rows(np.zeros((4, 8)), row_mesh(1), axis=-1)
