"""What does a loss take beside a row of the batch? Arrays, or trees of them, with one entry for each row."""

import jax
import jax.numpy as jnp


def check_row_arguments(row_arguments: tuple, rows: int) -> None:
    """Raise ValueError unless every array of the row arguments has one entry a row."""
    for index, argument in enumerate(row_arguments):
        for shape in map(jnp.shape, jax.tree.leaves(argument)):
            if shape[:1] != (rows,):
                raise ValueError(
                    f"row argument {index} needs one entry for each of the {rows} rows, got shape {shape}; a list "
                    "counts as a tree of arguments, so pass numbers as one array"
                )
