"""RealNVP of `bnjax.models.flow` in PyTorch, from its description alone: what tests and benchmarks compare with.

Couplings work on whole images with masks, as is usual in PyTorch; the running variance is the biased one.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

EPSILON = 1e-5
MOMENTUM = 0.1


def convolution(channels: int, features: int, size: int, bias: bool = True) -> nn.Module:
    return weight_norm(nn.Conv2d(channels, features, size, padding=size // 2, bias=bias))


class ResidualBlock(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.norms = nn.ModuleList([nn.BatchNorm2d(width) for _ in range(2)])
        self.convolutions = nn.ModuleList([convolution(width, width, 3, bias=False), convolution(width, width, 3)])
        self.skip = convolution(width, width, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = x
        for norm, convolve in zip(self.norms, self.convolutions, strict=True):
            y = convolve(functional.relu(norm(y)))
        x = x + y
        return x, self.skip(x)


class ResidualNetwork(nn.Module):
    def __init__(self, channels: int, features: int, width: int, blocks: int):
        super().__init__()
        self.first, self.skip = convolution(channels, width, 3), convolution(width, width, 1)
        self.blocks = nn.ModuleList([ResidualBlock(width) for _ in range(blocks)])
        self.norm, self.last = nn.BatchNorm2d(width), convolution(width, features, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        skipped = self.skip(x)
        for block in self.blocks:
            x, of_block = block(x)
            skipped = skipped + of_block
        return self.last(functional.relu(self.norm(skipped)))


class MaskedNormalization(nn.Module):
    """Standardize the entries where the mask is 1, by their own moments for each channel."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(channels, 1, 1))
        self.register_buffer("running_var", torch.ones(channels, 1, 1))

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        mean, variance = self.running_mean, self.running_var
        if self.training:
            count = len(x) * mask.sum()
            mean = (x * mask).sum((0, 2, 3), keepdim=True)[0] / count
            variance = ((x - mean) ** 2 * mask).sum((0, 2, 3), keepdim=True)[0] / count
            with torch.no_grad():
                self.running_mean.lerp_(mean, MOMENTUM)
                self.running_var.lerp_(variance, MOMENTUM)
        deviation = (variance + EPSILON).sqrt()
        y = (x - mean) / deviation * mask + x * (1 - mask)
        return y, -(deviation.log() * mask).sum()


class Coupling(nn.Module):
    def __init__(self, channels: int, width: int, blocks: int, checkerboard: bool):
        super().__init__()
        context = channels if checkerboard else channels // 2
        self.checkerboard = checkerboard
        self.context_norm = nn.BatchNorm2d(context)
        self.network = ResidualNetwork(2 * context + checkerboard, 2 * context, width, blocks)
        self.scale, self.scale_shift = (nn.Parameter(torch.zeros(())) for _ in range(2))
        self.norm = MaskedNormalization(context)

    def forward(self, x: Tensor, odd: bool) -> tuple[Tensor, Tensor]:
        if not self.checkerboard:
            kept, other = reversed(x.chunk(2, 1)) if odd else x.chunk(2, 1)
            other, log_determinant = self.transformed(kept, other, torch.ones_like(other[:1, :1]), [])
            return torch.cat([other, kept] if odd else [kept, other], 1), log_determinant
        rows, columns = torch.meshgrid(*map(torch.arange, x.shape[2:]), indexing="ij")
        kept_mask = ((rows + columns) % 2 == int(odd)).to(x)[None, None]
        return self.transformed(x * kept_mask, x, 1 - kept_mask, [kept_mask.expand(len(x), -1, -1, -1)])

    def transformed(self, context: Tensor, x: Tensor, mask: Tensor, masks: list[Tensor]) -> tuple[Tensor, Tensor]:
        context = self.context_norm(context)
        shift, log_scale = self.network(functional.relu(torch.cat([context, -context, *masks], 1))).chunk(2, 1)
        log_scale = (self.scale * torch.tanh(log_scale) + self.scale_shift) * mask
        y, log_determinant = self.norm(x * log_scale.exp() + shift * mask, mask)
        return y, log_determinant + log_scale.sum((1, 2, 3))


class RealNVP(nn.Module):
    def __init__(self, channels: int, width: int, blocks: int):
        super().__init__()

        def couplings(count: int, channels: int, checkerboard: bool) -> nn.ModuleList:
            return nn.ModuleList([Coupling(channels, width, blocks, checkerboard) for _ in range(count)])

        self.checkerboard = couplings(3, channels, True)
        self.channelwise = couplings(3, 4 * channels, False)
        self.last_checkerboard = couplings(4, 2 * channels, True)

    def forward(self, images: Tensor) -> Tensor:
        """Return the log-likelihood of every image."""
        p = (0.9 * (2 * images - 1) + 1) / 2
        x = torch.logit(p)
        total = (math.log(0.9) - p.log() - (1 - p).log()).sum((1, 2, 3))
        x, total = through(self.checkerboard, x, total)
        x, total = through(self.channelwise, squeezed(x), total)
        by_colour = x.unflatten(1, (4, -1))[:, [0, 3, 1, 2]].flatten(1, 2)
        x, factored = by_colour.chunk(2, 1)
        x, total = through(self.last_checkerboard, x, total)
        for latent in (factored, x):
            total = total - (latent**2 / 2 + math.log(2 * math.pi) / 2).sum((1, 2, 3))
        return total


def through(couplings: nn.ModuleList, x: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
    for index, coupling in enumerate(couplings):
        x, log_determinant = coupling(x, index % 2 == 1)
        total = total + log_determinant
    return x, total


def squeezed(x: Tensor) -> Tensor:
    """Make channels of every 2×2 square, square by square in rows, then channels."""
    n, channels, height, width = x.shape
    squares = x.reshape(n, channels, height // 2, 2, width // 2, 2).permute(0, 3, 5, 1, 2, 4)
    return squares.reshape(n, 4 * channels, height // 2, width // 2)
