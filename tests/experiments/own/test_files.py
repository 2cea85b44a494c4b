"""Variables are read from every kind of file that users keep them in."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint
import pytest
from flax import linen as nn
from flax.serialization import to_bytes
from flax.traverse_util import flatten_dict

from experiments.own.files import own_variables
from experiments.own.model import called_shapes, own_model
from tests.comparison import assert_close
from tests.experiments.own.folder import INPUTS


def test_variables_are_read_from_every_kind_of_file(folder, variables):
    _, drawn = variables
    flat: dict[str, Any] = flatten_dict(drawn, sep="/")
    np.savez(folder / "all.npz", **flat)
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder / "state", {"params": drawn["params"], "stats": drawn["batch_stats"]})
    for name in ("weights.msgpack", "all.npz", "state"):
        jax.tree.map(np.testing.assert_array_equal, own_variables(folder / name, drawn), drawn)


@pytest.mark.parametrize("name", ["plain.npz", "boxed.msgpack", "plain.msgpack"])
def test_variables_of_a_model_with_boxes_are_read_boxed_or_not(folder, name):
    model = own_model("own_nets:Boxed", "{}", "{}", "cross_entropy")
    boxed = model.module.init(jax.random.key(3), INPUTS)
    plain: Any = nn.unbox(boxed)
    flat: dict[str, Any] = flatten_dict(plain, sep="/")
    np.savez(folder / "plain.npz", **flat)
    (folder / "boxed.msgpack").write_bytes(to_bytes(boxed))
    (folder / "plain.msgpack").write_bytes(to_bytes(plain))
    inputs = jnp.asarray(INPUTS)
    read = own_variables(folder / name, called_shapes(model, jax.random.key(0), inputs))
    jax.tree.map(np.testing.assert_array_equal, read, plain)
    expected: Any = model.module.apply(boxed, inputs)
    assert_close(model.outputs(read, inputs, {})[0], expected)
