"""How fast is a convolution with both its derivatives in each of its forms, beside PyTorch's?

    python -m benchmarks.convolutions

The shapes of LeNet-5, VGG-A and the ResNets at 32×32, float32: the value, the gradient with respect to the images and
the one with respect to the kernel, in one compiled call. The forms' outputs are compared with each other. Timed after a
warm-up, in turns; reported are medians and the smallest and largest ratio of a turn. PyTorch is in the extra `bench`;
without it its columns are empty.
"""

import dataclasses
import importlib.util
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.agreement import largest_difference
from benchmarks.turns import MEASURED, NO_TORCH, TORCH, TimingOptions, in_turns, ratios
from bnjax.models.convolution import fastest_form
from bnjax.models.convolution_forms import Form, band, native, output_shape, patches, winograd
from experiments.common.command import main
from experiments.common.progress import progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMS: dict[str, Form] = {"native": native, "patches": patches, "band": band, "winograd": winograd}
# Agreement of float32 results, relative to the largest entry.
TOLERANCE = 5e-5


class Shape(NamedTuple):
    """A convolution: square images, a square kernel, and how it is moved."""

    extent: int
    channels: int
    features: int
    size: int = 3
    strides: int = 1
    padding: int = 1

    def __str__(self) -> str:
        """Return what the tables call it."""
        step = f", strides {self.strides}" if self.strides > 1 else ""
        return f"{self.extent}×{self.extent}, {self.channels}→{self.features}, {self.size}×{self.size}{step}"


SHAPES = (
    Shape(28, 1, 6, size=5, padding=2),
    Shape(14, 6, 16, size=5, padding=0),
    Shape(32, 3, 64),
    Shape(32, 64, 64),
    Shape(16, 64, 128),
    Shape(16, 128, 128),
    Shape(8, 128, 256),
    Shape(8, 256, 256),
    Shape(4, 256, 512),
    Shape(4, 512, 512),
    Shape(2, 512, 512),
    Shape(32, 64, 128, strides=2),
    Shape(16, 128, 256, strides=2),
    Shape(8, 256, 512, strides=2),
    Shape(32, 64, 128, size=1, strides=2, padding=0),
    Shape(32, 64, 256, size=1, padding=0),
    Shape(16, 256, 32),
)


@dataclass(frozen=True)
class Config(TimingOptions):
    """Time convolutions with their derivatives in every form, side by side with PyTorch."""

    repeats: int = 5
    """Turns; each times every form once."""
    batch_size: int = 128
    """Images of a batch."""

    def smoke_sized(self) -> "Config":
        """Return a run of seconds."""
        return dataclasses.replace(self, repeats=2, batch_size=2)


def run(config: Config) -> dict[str, Any]:
    """Time every shape."""
    shapes = SHAPES[:2] if config.smoke else SHAPES
    return {"table": [row for shape in progress(shapes, "timing convolutions") for row in _timed(config, shape)]}


def failures(results: dict[str, Any]) -> list[str]:
    """Return forms whose values or derivatives are not those of the native one."""
    return [
        f"{row['case']}: {row['form']} differs by {row['difference']:.1e} of the largest entry"
        for row in results["table"]
        if not row["difference"] <= TOLERANCE
    ]


def figures(results: dict[str, Any], config: dict[str, Any]) -> "dict[str, Figure]":
    """Draw the seconds of every form and of PyTorch for every shape."""
    from bnjax.reporting.figures import dots

    rows = []
    for row in results["table"]:
        rows.append({"case": row["case"], "what": row["form"], "seconds": row["ours_s"]})
        if row["chosen"] and row["peer_s"] is not None:
            rows.append({"case": row["case"], "what": TORCH, "seconds": row["peer_s"]})
    return {
        "seconds": dots(
            rows,
            name="case",
            value="seconds",
            series="what",
            name_label="images, channels→features, kernel",
            value_label="seconds",
            floor=1e-3,
            title="A convolution and its derivatives in every form",
            caption=f"value and both gradients; median of {config['repeats']} turns; {config['batch_size']} random "
            f"images, float32; seed {config['seed']}",
        )
    }


def _timed(config: Config, shape: Shape) -> list[dict[str, Any]]:
    generator = np.random.default_rng(config.seed)
    images = (config.batch_size, shape.extent, shape.extent, shape.channels)
    kernels = (shape.size, shape.size, shape.channels, shape.features)
    x, kernel = (jnp.asarray(generator.standard_normal(size), jnp.float32) for size in (images, kernels))
    outputs = output_shape(x, kernel, shape.strides, shape.padding)
    change = jnp.asarray(generator.standard_normal(outputs), jnp.float32)

    possible = dict(FORMS)
    if (shape.size, shape.strides) != (3, 1):
        del possible["winograd"]
    if shape.channels > 16:  # A band matrix would have as many columns as memory.
        del possible["band"]
    calls = {name: _ours(form, shape, x, kernel, change) for name, form in possible.items()}
    if importlib.util.find_spec("torch") is not None:
        calls[TORCH] = _pytorch(shape, *(np.asarray(array) for array in (x, kernel, change)))

    seconds, outputs = in_turns(calls, config.repeats)
    rows = []
    for name, form in possible.items():
        measured: dict[str, float | None] = dict.fromkeys(MEASURED)
        if TORCH in calls:
            measured = ratios(seconds[name], seconds[TORCH])
        rows.append(
            {
                "case": str(shape),
                "form": name,
                "chosen": form is fastest_form(images, kernels, shape.strides),
                "ours_s": statistics.median(seconds[name]),
                "peer": TORCH,
                **measured,
                "difference": largest_difference(outputs[name], outputs["native"]),
                "reason": "" if TORCH in calls else NO_TORCH,
            }
        )
    return rows


def _ours(form: Form, shape: Shape, x: jax.Array, kernel: jax.Array, change: jax.Array) -> Callable[[], Any]:
    @jax.jit
    def value_and_gradients(x: jax.Array, kernel: jax.Array, change: jax.Array) -> tuple[jax.Array, ...]:
        y, pull_back = jax.vjp(lambda x, kernel: form(x, kernel, shape.strides, shape.padding), x, kernel)
        return y, *pull_back(change)

    return lambda: jax.block_until_ready(value_and_gradients(x, kernel, change))


def _pytorch(shape: Shape, *arrays: np.ndarray) -> Callable[[], Any]:
    import torch

    orders = (0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2)
    x, kernel, change = (
        torch.from_numpy(array.transpose(order).copy()) for array, order in zip(arrays, orders, strict=True)
    )
    x.requires_grad_()
    kernel.requires_grad_()

    def call() -> Any:
        x.grad = kernel.grad = None
        y = torch.nn.functional.conv2d(x, kernel, stride=shape.strides, padding=shape.padding)
        y.backward(change)
        return y.detach()

    return call


if __name__ == "__main__":
    main(run, Config, name="benchmarks.convolutions", figures=figures, failures=failures, x64=False)
