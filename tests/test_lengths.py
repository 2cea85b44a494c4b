"""A file that answers one question is not long."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("benchmarks", "bnjax", "docs/site", "experiments", "tests")
CODE = {".py", ".css", ".html", ".js"}


def test_no_file_has_more_than_300_lines_without_a_reason_at_its_top():
    lines = {
        file: file.read_text(encoding="utf-8").splitlines()
        for folder in FOLDERS
        for file in (ROOT / folder).rglob("*")
        if file.suffix in CODE
    }
    assert len(lines) > 250
    assert not [file.name for file, text in lines.items() if len(text) > 300 and "300 lines" not in "".join(text[:12])]
