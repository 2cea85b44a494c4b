"""What does a finished run leave in its folder and on the terminal?"""

import io
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from errno import EISDIR
from pathlib import Path
from tempfile import TemporaryFile, mkdtemp
from typing import TYPE_CHECKING, Any

from bnjax.reporting.files import write_text
from bnjax.reporting.locks import alone_in
from bnjax.reporting.records import Record, require_free, tables_of, write_csv, write_record
from bnjax.reporting.tables import format_table
from experiments.common.pipes import while_somebody_reads
from experiments.common.question import question_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bnjax.reporting.pages import Picture

PAGE_FILE = "report.html"
# The most rows on a terminal: nobody reads more there, and laying out a million takes minutes.
PRINTED = 500
Results = dict[str, Any]
# Draws figures, by the names of their files, from the results and the config of a record.
Figures = Callable[[Results, dict[str, Any]], "Mapping[str, Figure]"]


@contextmanager
def reserved(directory: Path) -> Iterator[None]:
    """Make a folder that can be written and keep other runs out of it; take it away again if it stays empty.

    Raises:
        OSError: it holds a result, is another run's, or can't be written.
    """
    require_free(directory)
    made = not directory.exists()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _try_writing(directory)
    except OSError as error:
        raise OSError(f"{directory} can't be written: {error.strerror}; give another folder, by --output") from error
    try:
        with alone_in(directory):
            require_free(directory)  # The run that had it may just have ended.
            yield
    finally:
        if made and directory.is_dir() and not any(directory.iterdir()):
            directory.rmdir()


def require_writable(file: Path, option: str) -> None:
    """Raise OSError, naming the option to change, if a file can't be written; make nothing."""
    try:
        if file.is_dir():
            raise IsADirectoryError(EISDIR, "it is a folder")
        _try_writing(next(folder for folder in file.absolute().parents if folder.exists()))
    except OSError as error:
        raise OSError(f"{file} can't be written: {error.strerror}; give another file, by {option}") from error


def _try_writing(directory: Path) -> None:
    with TemporaryFile(dir=directory) as file:
        file.write(b"written")


def publish(directory: Path, record: Record, figures: Figures | None) -> list[str]:
    """Write everything, the record last; return a line if the drawing failed.

    Raises:
        OSError: the folder can't be written any more; the record is then kept in a temporary one.
    """
    if "table" not in tables_of(record.results):
        raise TypeError("an experiment's results hold 'table', a non-empty list of flat rows")
    complaint = []
    try:
        require_free(directory)
        write_tables(directory, record)
        try:
            draw(directory, record, figures)
        except Exception as error:
            if not isinstance(error, OSError):  # A full disk is no bug.
                traceback.print_exc()
            complaint = [f"figures and page were not drawn ({error}); once mended, run {_redraw(directory)}"]
        write_record(directory, record)
    except OSError as error:
        kept = Path(mkdtemp(prefix="results-"))
        write_record(kept, record)
        raise OSError(f"{error}; the results are kept in {kept}: {_redraw(kept)} --output DIR draws them") from error
    return complaint


def _redraw(directory: Path) -> str:
    return shlex.join(["python", "-m", "experiments.redraw", str(directory)])


def write_tables(directory: Path, record: Record) -> list[Path]:
    """Write the tables of a record as CSV and return their paths."""
    return [write_csv(directory / f"{name}.csv", rows) for name, rows in tables_of(record.results).items()]


def draw(directory: Path, record: Record, figures: Figures | None) -> list[Path]:
    """Draw the figures of a record and its page, `report.html`, and return their paths."""
    from bnjax.reporting.pages import run_page

    paths, pictures = _draw_figures(directory, figures(record.results, record.config)) if figures else ([], [])
    page = directory / PAGE_FILE
    write_text(page, run_page(record, question_of(record.experiment), pictures))
    return [*paths, page]


def _draw_figures(directory: Path, figures: "Mapping[str, Figure]") -> "tuple[list[Path], list[Picture]]":
    from bnjax.reporting.figures import rows_of, save
    from bnjax.reporting.pages import Picture

    paths = save(figures, directory)
    texts = {path.stem: path.read_text(encoding="utf-8") for path in paths if path.suffix == ".svg"}
    return paths, [
        Picture(name, figure.get_suptitle(), texts[name], rows_of(figure)) for name, figure in figures.items()
    ]


def print_results(
    record: Record,
    directory: Path,
    summary: Callable[[Results], list[dict[str, Any]]] | None,
    columns: Sequence[str] | None,
) -> None:
    """Print the table, its notes, whether the checks hold, and the files; quietly, if nobody reads on."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # A terminal without Greek letters is no reason to fail.
    rows = (summary(record.results) if summary else []) or record.results["table"]
    left = f"… and {len(rows) - PRINTED:,} further rows, in the files" if len(rows) > PRINTED else None
    with while_somebody_reads():  # The record is complete.
        print(format_table(rows[:PRINTED], columns=columns, caption=left))
        for note in record.results.get("notes", ()):
            print(f"\n{note}")
        if record.results.get("failures") == []:
            print("\nAll checks of the computation hold.")
        if record.config["smoke"]:
            print("\nA smoke run: its sizes say nothing about the question, so nothing is said of the claims.")
        print(f"\nwritten to {directory}/: {', '.join(sorted(path.name for path in directory.iterdir()))}")
