"""A million rows, one and none."""

import jax.numpy as jnp

import bnjax
from bnjax.normalizers import batch_norm
from bnjax.reporting.records import column_names, write_csv
from bnjax.reporting.tables import format_table
from experiments.common.command import main
from experiments.common.options import Options
from tests.comparison import assert_close


def test_of_a_long_table_the_terminal_shows_the_beginning_and_the_file_all(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("experiments.common.folder.PRINTED", 2)
    table = [{"order": order} for order in range(1, 7)]
    main(lambda _: {"table": table}, Options, name="experiments.demo", args=["--output", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "… and 4 further rows, in the files" in printed
    assert "    6" not in printed
    assert (tmp_path / "table.csv").read_text().splitlines() == ["order", *map(str, range(1, 7))]


def test_a_million_rows_go_to_a_file(tmp_path):
    row = {"term": "gradient", "survival": 0.5}
    path = write_csv(tmp_path / "table.csv", [row] * 1_000_000)
    assert path.stat().st_size == len("term,survival\n") + 1_000_000 * len("gradient,0.5\n")


def test_one_row_is_a_table():
    assert format_table([{"order": 1, "survival": 0.5}]).splitlines()[-1].split() == ["1", "0.500"]


def test_no_row_is_an_empty_table(tmp_path):
    assert format_table([]) == ""
    assert column_names([]) == []
    assert write_csv(tmp_path / "none.csv", []).read_text() == "\n"


def test_a_million_rows_are_blocked_as_a_few_are():
    x = jnp.sin(jnp.arange(1_000_000.0) ** 2)[:, None]
    report = bnjax.blocking(lambda row: jnp.sum(jnp.exp(row)), batch_norm(epsilon=0.0), x)
    assert report.terms["gradient"].survival < 1e-9
    assert_close(sum(part.input_gradient for part in report.terms.values()), report.total_gradient)
