"""A finished run prints what it found."""

from bnjax.reporting.records import Record
from experiments.common.folder import print_results


def test_notes_are_printed_below_the_table(tmp_path, capsys):
    notes = ["Checked: it adds up."]
    print_results(
        Record("experiments.audit", {"smoke": False}, {}, {"table": [{"a": 1}], "notes": notes}), tmp_path, None, None
    )
    assert "\n\nChecked: it adds up.\n" in capsys.readouterr().out
