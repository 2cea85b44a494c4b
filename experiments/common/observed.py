"""How is something measured along a training run that may be killed and go on?"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from bnjax.data import LabelledImages
from bnjax.reporting.files import write_text
from bnjax.training import LossNotFiniteError, Order, Recipe, Trained, TrainState
from experiments.common.networks import TrainingOptions
from experiments.common.progress import training_bar


class Observed(NamedTuple):
    """A finished run and what was seen on its way.

    Attributes:
        trained: the run.
        by_epoch: what `observe` returned, from before the first epoch to after the last.
    """

    trained: Trained
    by_epoch: list[Any]


def trained_and_observed(
    config: TrainingOptions,
    name: str,
    recipe: Recipe,
    train_data: LabelledImages,
    test_data: LabelledImages,
    *,
    order: Order,
    seed: int,
    advance: Callable[[str, dict[str, Any]], None],
    observe: Callable[[int, TrainState], Any],
    start: TrainState | None = None,
) -> Observed:
    """Train one network, or go on from what a run under the same options left, and keep what is seen of every epoch.

    Args:
        config: the experiment's options; the run's folder lies in its `output`.
        name: of the run.
        recipe, train_data, test_data, order, seed, start: as in `train`.
        advance: called with name and metrics after every epoch.
        observe: `(epoch, state) -> value`, something that JSON can hold.

    Raises:
        ValueError: a batch of more rows than there are.
        LossNotFiniteError: the run diverged, or something seen is not finite.
    """
    directory = config.checkpoints_of(name)
    assert directory is not None, "main always gives an output"
    folder = directory / "observed"

    def keep(epoch: int, state: TrainState) -> None:
        seen = observe(epoch, state)
        try:
            text = json.dumps(seen, allow_nan=False)
        except ValueError as error:
            raise LossNotFiniteError(
                f"what is measured needs to be finite, got a number that is not after epoch {epoch}; lower the "
                "learning rate or the step sizes"
            ) from error
        write_text(folder / f"{epoch}.json", text)

    try:
        trained = config.trained(
            recipe,
            train_data,
            test_data,
            order=order,
            seed=seed,
            start=start,
            directory=directory,
            report=partial(advance, name),
            observe=keep,
        )
    except LossNotFiniteError as error:
        raise LossNotFiniteError(f"{name}: {error}") from error
    return Observed(trained, [_seen(folder / f"{epoch}.json") for epoch in range(config.epochs + 1)])


def _seen(file: Path) -> Any:
    """Return what was seen of an epoch; ValueError if the file is damaged, for the epoch is over."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(
            f"{file}, what was measured of an epoch, is damaged ({error}); remove {file.parents[1]} to train that "
            "network anew"
        ) from None


class PlannedRun(NamedTuple):
    """A run to be made.

    Attributes:
        which: what tells it from the others, its `seed` among it; its folder is named after all of it.
        recipe: as in `train`.
        observe: as in `trained_and_observed`.
        start: as in `train`.
    """

    which: dict[str, Any]
    recipe: Recipe
    observe: Callable[[int, TrainState], Any]
    start: TrainState | None = None


def observed_runs(
    config: TrainingOptions,
    runs: Iterable[PlannedRun],
    train_data: LabelledImages,
    test_data: LabelledImages,
    *,
    order: Order,
    advance: Callable[[str, dict[str, Any]], None],
    diverged: list[dict[str, Any]],
) -> Iterator[tuple[dict[str, Any], Observed]]:
    """Make one run after another and yield which it was with what was seen.

    A run that diverges is left out and told of in `diverged`.

    Args:
        config, train_data, test_data, order, advance: as in `trained_and_observed`.
        runs: what to run; the next is asked for when the one before is over.
        diverged: a list to which each such run's `which` and the `reason` are added.

    Raises:
        ValueError: a batch of more rows than there are.
        LossNotFiniteError: every run diverged.
    """
    ended = 0
    for run in runs:
        try:
            observed = trained_and_observed(
                config,
                "-".join(map(str, run.which.values())),
                run.recipe,
                train_data,
                test_data,
                order=order,
                seed=run.which["seed"],
                start=run.start,
                advance=advance,
                observe=run.observe,
            )
        except LossNotFiniteError as error:
            diverged.append({**run.which, "reason": str(error)})
        else:
            ended += 1
            yield run.which, observed
    if not ended:
        raise LossNotFiniteError(f"every run diverged, the first as {diverged[0]['reason']}")


def observed_from_every_seed(
    config: TrainingOptions,
    recipes: Mapping[str, Recipe],
    train_data: LabelledImages,
    test_data: LabelledImages,
    *,
    seeds: int,
    order: Order,
    observe: Callable[[Recipe, int, int, TrainState], Any],
    diverged: list[dict[str, Any]],
) -> Iterator[tuple[dict[str, Any], Observed]]:
    """Train every normalizer's recipe from so many seeds: `observed_runs` of which `normalizer` and `seed` are told.

    Args:
        config, train_data, test_data, order, diverged: as in `observed_runs`.
        recipes: by the normalizers' names.
        seeds: runs of each, with the seeds seed, seed + 1, …
        observe: `(recipe, seed, epoch, state) -> value`, something that JSON can hold.

    Raises:
        ValueError: a batch of more rows than there are.
        LossNotFiniteError: every run diverged.
    """
    runs = [
        PlannedRun({"normalizer": name, "seed": seed}, recipe, partial(observe, recipe, seed))
        for (name, recipe), seed in product(recipes.items(), range(config.seed, config.seed + seeds))
    ]
    with training_bar(len(runs) * config.epochs) as advance:
        yield from observed_runs(config, runs, train_data, test_data, order=order, advance=advance, diverged=diverged)
