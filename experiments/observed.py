"""How is something measured along a training run that may be killed and go on?"""

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import product
from typing import Any, NamedTuple

from bnjax.data import LabelledImages
from bnjax.reporting.records import replacing
from bnjax.training import LossNotFiniteError, Order, Recipe, Trained, TrainState
from experiments.command import training_bar
from experiments.networks import TrainingOptions


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
        with replacing(folder / f"{epoch}.json") as temporary:
            temporary.write_text(text, encoding="utf-8")

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
    files = [folder / f"{epoch}.json" for epoch in range(config.epochs + 1)]
    return Observed(trained, [json.loads(file.read_text(encoding="utf-8")) for file in files])


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
    """Train every normalizer's recipe from so many seeds, one after another, and yield what was seen with whose it is.

    A run that diverges is left out and told of in `diverged`.

    Args:
        config, train_data, test_data, order: as in `trained_and_observed`.
        recipes: by the normalizers' names.
        seeds: runs of each, with the seeds seed, seed + 1, …
        observe: `(recipe, seed, epoch, state) -> value`, something that JSON can hold.
        diverged: a list to which `normalizer`, `seed` and `reason` are added.

    Raises:
        ValueError: a batch of more rows than there are.
        LossNotFiniteError: every run diverged.
    """
    runs = list(product(recipes, range(config.seed, config.seed + seeds)))
    with training_bar(len(runs) * config.epochs) as advance:
        for name, seed in runs:
            which = {"normalizer": name, "seed": seed}
            try:
                observed = trained_and_observed(
                    config,
                    f"{name}-{seed}",
                    recipes[name],
                    train_data,
                    test_data,
                    order=order,
                    seed=seed,
                    advance=advance,
                    observe=partial(observe, recipes[name], seed),
                )
            except LossNotFiniteError as error:
                diverged.append({**which, "reason": str(error)})
            else:
                yield which, observed
    if len(diverged) == len(runs):
        raise LossNotFiniteError(f"every run diverged, the first as {diverged[0]['reason']}")
