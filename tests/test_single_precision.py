"""The calls work as JAX starts, in float32, with errors of that precision.

In a process of its own, since the rest of the tests run in float64.
"""

import subprocess
import sys

PROGRAM = """
import jax, jax.numpy as jnp, bnjax
from bnjax.normalizers import batch_norm

keys = jax.random.split(jax.random.key(0), 4)
x, labels = 5 + jax.random.normal(keys[0], (8, 4)), jnp.zeros(8, int)
first, second = jax.random.normal(keys[1], (6, 4)), jax.random.normal(keys[2], (3, 6))
head = bnjax.cross_entropy_head(lambda y: second @ jax.nn.relu(first @ y + 1))
report = bnjax.blocking(head, batch_norm(epsilon=0.0), x, labels)
assert report.total_gradient.dtype == jnp.float32
added_up = sum(term.input_gradient for term in report.terms.values())
error = jnp.linalg.norm(added_up - report.total_gradient) / jnp.linalg.norm(report.total_gradient)
assert error < 1e-5, error
for term in ("gradient", "diagonal"):
    assert report.terms[term].shared.survival < 1e-5, term
assert report.terms["off_diagonal"].survival > 0.1
"""


def test_blocking_in_float32_adds_up_and_blocks_to_its_precision():
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
