"""How far is a run? Shown on stderr; bars only if that is a terminal."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    track,
)

Item = TypeVar("Item")


def progress(iterable: Iterable[Item], description: str, total: float | None = None) -> Iterable[Item]:
    """Pass items on and show how far the loop is, on stderr and only if that is a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        return iterable
    return track(iterable, description, total=total, console=console, transient=True)


@contextmanager
def training_bar(epochs: int) -> Iterator[Callable[[str, Mapping[str, float]], None]]:
    """Show loss, test score and time left over so many epochs, on stderr and only if that is a terminal.

    Yields:
        A function to be called after every epoch with what is being trained and the epoch's metrics.
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("training", total=epochs)

        def advance(what: str, row: Mapping[str, float]) -> None:
            scores = [f"{key.replace('_', ' ')} {row[key]:.3f}" for key in row if key.startswith("test_")]
            text = f"{what}: loss {row['train_loss']:.3g}, {', '.join(scores)}"
            bar.update(task, advance=1, description=text)

        yield advance


@contextmanager
def parts_bar(count: int) -> Iterator[tuple[Callable[[str], None], Callable[[str], None]]]:
    """Show how many of so many parts have ended, on stderr, and on a terminal a bar and the time that went by.

    Yields:
        A function to be called at the begin of each with its name, and one for its end, with a line that says so.
    """
    console = Console(stderr=True, soft_wrap=True, markup=False, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task, numbers = bar.add_task("", total=count), itertools.count(1)

        def begins(name: str) -> None:
            bar.update(task, description=name)

        def ends(line: str) -> None:
            bar.advance(task)
            console.print(f"{next(numbers)}/{count} {line}")

        yield begins, ends
