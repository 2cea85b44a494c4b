import subprocess
import sys

import pytest

from bnjax.reporting.tables import format_table, format_value

ROWS = [
    {"term": "gradient", "gradient_norm_output": 1.0, "survival": 1.2e-16, "holds": True},
    {
        "term": "[red]diagonal",
        "gradient_norm_output": 123.456,
        "survival": None,
        "holds": False,
        "reason": "it is zero",
    },
]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.5, "-0.500"),
        (0.9999, "1.00"),
        (0.001, "0.00100"),
        (0.000999, "1.0e-03"),
        (999.4, "999"),
        (999.6, "1000"),
        (123456.0, "1.23e+05"),
        (1.2e-16, "1.2e-16"),
        (float("nan"), "nan"),
        (7, "7"),
        (True, "yes"),
        (None, "–"),
        ("text", "text"),
    ],
)
def test_values_read_well(value, text):
    assert format_value(value) == text


def test_every_value_stands_in_the_row_of_its_term():
    text = format_table(ROWS, title="A title", caption="n = 2")
    first, *_, header, _, gradient, diagonal, last = text.splitlines()
    assert (first, last) == ("A title", "n = 2")
    assert header.split() == ["term", "output", "survival", "holds", "reason"]
    assert gradient.split() == ["gradient", "1.00", "1.2e-16", "yes"]
    assert diagonal.split() == ["[red]diagonal", "123", "–", "no", "it", "is", "zero"]


def test_numbers_are_aligned_at_the_right():
    lines = format_table([{"n": 1}, {"n": 100}]).splitlines()
    assert lines == ["  n", "───", "  1", "100"]


def test_a_wide_table_is_never_folded():
    rows = [{f"column{index}": 1.0 for index in range(60)}]
    assert format_table(rows).splitlines()[-1].split() == ["1.00"] * 60


def test_columns_choose_and_order():
    assert format_table(ROWS, columns=["survival", "term"]).splitlines()[0].split() == ["survival", "term"]


def test_an_unknown_column_is_refused():
    with pytest.raises(ValueError, match="'spelling'"):
        format_table(ROWS, columns=["spelling"])


def test_no_rows_give_an_empty_text():
    assert format_table([]) == ""


@pytest.mark.parametrize("forced", ["FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE"])
def test_printed_output_has_no_escape_codes(forced):
    code = "from bnjax.reporting.tables import format_table; print(format_table([{'a': 1.0}], title='t'))"
    environment = {"PATH": "", "PYTHONIOENCODING": "utf-8", forced: "1", "TERM": "xterm-256color"}
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=environment).stdout
    assert b"\x1b" not in output
    assert b"1.00" in output
