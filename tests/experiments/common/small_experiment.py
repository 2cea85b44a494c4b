"""An experiment that takes no time, as the tests of the command run it."""

import dataclasses
from dataclasses import dataclass

import jax.numpy as jnp

from bnjax.reporting.figures import lines
from experiments.common.command import main
from experiments.common.options import Options


@dataclass(frozen=True)
class Config(Options):
    """An experiment for the tests."""

    rows: int = 64
    """How many rows there are."""

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise ValueError(f"rows is {self.rows}; give at least 1")
        super().__post_init__()

    def smoke_sized(self) -> "Config":
        return dataclasses.replace(self, rows=2)

    def paper_sized(self) -> "Config":
        return dataclasses.replace(self, rows=5)


def run(config: Config) -> dict:
    table = [{"order": order, "survival": jnp.ones(()) / order} for order in range(1, config.rows + 1)]
    return {"table": table, "orders": [{"order": 1}], "matrix": jnp.eye(2), "dtype": str(jnp.ones(()).dtype)}


def figures(results: dict, config: dict) -> dict:
    caption = f"{config['rows']} rows"
    return {"survival": lines(results["table"], x="order", y="survival", title="Survival", caption=caption)}


def call(*args: object, run=run, **options) -> None:
    main(run, Config, name="experiments.demo", args=[str(arg) for arg in args], **options)
