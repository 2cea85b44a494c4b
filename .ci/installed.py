"""Does what `pip install` put there work? Run by .ci/run outside of the checkout, with nothing but bnjax installed."""

import doctest
import sys
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

import bnjax
from bnjax.normalizers import batch as documented
from bnjax.normalizers import batch_norm

jax.config.update("jax_enable_x64", True)


class Model(nn.Module):
    """Two layers around a batch normalization."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return five logits a row."""
        x = nn.BatchNorm(use_running_average=False, epsilon=0.0, name="norm")(nn.Dense(8)(x))
        return nn.Dense(5)(jnp.tanh(x))


def main() -> None:
    """Ask the library its main questions, where theory knows the answers."""
    installed = Path(bnjax.__file__).parent
    assert "site-packages" in installed.parts, f"needed the installed bnjax, got {installed}"
    assert bnjax.__version__ == version("bnjax")
    assert files(bnjax).joinpath("py.typed").is_file()

    keys = jax.random.split(jax.random.key(0), 3)
    x, labels = jax.random.normal(keys[0], (16, 6)), jax.random.randint(keys[1], (16,), 0, 5)
    weights = jax.random.normal(keys[2], (5, 6))
    head = bnjax.cross_entropy_head(lambda y: weights @ jax.nn.relu(y + 1))
    report = bnjax.blocking(head, batch_norm(epsilon=0.0), x, labels)
    print(report)
    assert report.terms["gradient"].shared.survival < 1e-12 < 0.1 < report.terms["remainder"].survival

    model, loss = Model(), optax.softmax_cross_entropy_with_integer_labels
    audited = bnjax.audit(model, model.init(keys[2], x), x, labels, loss=loss, layer="norm")
    print(audited)
    assert audited.terms["diagonal"].shared.survival < 1e-12 < 0.1 < audited.terms["gradient"].survival

    examples = doctest.testmod(documented)
    assert examples.attempted
    assert not examples.failed
    print(f"bnjax {bnjax.__version__}, Python {sys.version.split()[0]}, jax {jax.__version__}: works")


if __name__ == "__main__":
    main()
