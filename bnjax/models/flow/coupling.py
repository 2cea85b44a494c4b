"""What is one step of a flow? An affine coupling: half of an image, scaled and shifted by what the other half says."""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array

from bnjax.models.flow.normalization import FlowNormalization
from bnjax.models.flow.partition import Half, Partition
from bnjax.models.flow.pixels import Images, Transformed
from bnjax.models.flow.residual_network import ResidualNetwork
from bnjax.models.normalizer import Normalization
from bnjax.normalizers import Normalizer
from bnjax.normalizers.normalizer import Mode


class Coupling(nn.Module):
    """`y = x · exp(log_scale) + shift` on one half, then standardized; the other half is kept (arXiv 1605.08803).

    `shift` and `log_scale = a · tanh(·) + b` come from a residual network of the kept half: its normalized context, the
    same negated, and the mask, after a ReLU. The scalars a and b are learned from 0.

    Attributes:
        partition: how images are halved; each call says which half is kept.
        channels: of the images.
        width: channels inside the network.
        blocks: residual blocks of the network.
        norm: the normalizer inside the network, as in `RealNVP`.
        flow_norm: the normalizer of the transformed half.
        whole_batch: as in `FlowNormalization`.
    """

    partition: type[Partition]
    channels: int
    width: int
    blocks: int
    norm: Normalizer
    flow_norm: Normalizer
    whole_batch: bool = False

    def setup(self) -> None:
        """Build the network and the normalization."""
        features = 2 * self.partition.context_channels(self.channels)
        self.context_normalization = Normalization(self.norm)
        self.network = ResidualNetwork(features, self.width, self.blocks, self.norm)
        self.scale = self.param("scale", nn.initializers.zeros, (), jnp.float32)
        self.scale_shift = self.param("scale_shift", nn.initializers.zeros, (), jnp.float32)
        self.normalization = FlowNormalization(self.flow_norm, self.whole_batch)

    def __call__(self, x: Images, odd: bool | Array, *, mode: Mode) -> Transformed:
        """Transform the images; in batch mode by the statistics of the batch.

        Args:
            x: images.
            odd: which half is kept, as in the partition.
            mode: "batch" or "running".
        """
        partition = self.partition(odd)
        kept, other = partition.split(x)
        shift, log_scale = self._shift_and_log_scale(partition, kept, mode)
        standardized, log_determinant = self.normalization(other * jnp.exp(log_scale) + shift, mode=mode)
        log_determinant += jnp.sum(log_scale, axis=(1, 2, 3))
        return Transformed(partition.merge(kept, standardized), log_determinant)

    def inverse(self, y: Images, odd: bool | Array) -> Images:
        """Return what `__call__` in running mode makes `y` of."""
        partition = self.partition(odd)
        kept, other = partition.split(y)
        shift, log_scale = self._shift_and_log_scale(partition, kept, "running")
        return partition.merge(kept, (self.normalization.inverse(other) - shift) * jnp.exp(-log_scale))

    def _shift_and_log_scale(self, partition: Partition, kept: Half, mode: Mode) -> tuple[Half, Half]:
        context = self.context_normalization(partition.context(kept), mode=mode)
        inputs = jnp.concatenate([context, -context, partition.mask(kept)], axis=-1)
        shift, log_scale = jnp.split(self.network(nn.relu(inputs), mode=mode), 2, axis=-1)
        log_scale = self.scale * jnp.tanh(log_scale) + self.scale_shift
        return partition.transformed_part(shift), partition.transformed_part(log_scale)
