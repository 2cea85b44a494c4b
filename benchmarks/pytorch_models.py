"""The networks of `bnjax.models` in PyTorch, from their descriptions alone: what tests and benchmarks compare with.

Every module is called in the order in which a reader meets it, so that the layers of both sides pair up by order.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


def flat(x: Tensor) -> Tensor:
    """Flatten with the channels last."""
    return x.permute(0, 2, 3, 1).flatten(1) if x.ndim == 4 else x.flatten(1)


class Flat(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return flat(x)


class MLP(nn.Sequential):
    def __init__(self, inputs: int, widths: tuple[int, ...], classes: int):
        layers, previous = [Flat()], inputs
        for width in widths:
            layers += [nn.Linear(previous, width), nn.BatchNorm1d(width), nn.ReLU()]
            previous = width
        super().__init__(*layers, nn.Linear(previous, classes))


class DeepLinear(nn.Sequential):
    def __init__(self, depth: int, features: int):
        layers = []
        for _ in range(depth - 1):
            layers += [nn.Linear(features, features, bias=False), nn.BatchNorm1d(features)]
        super().__init__(*layers, nn.Linear(features, features, bias=False))


def split_head(version: int) -> list[nn.Module]:
    before = [module for _ in range(7 - version) for module in (nn.Linear(20, 20), nn.ReLU())]
    after = [module for _ in range(version - 1) for module in (nn.Linear(20, 20), nn.ReLU())]
    return [*before, nn.BatchNorm1d(20), *after, nn.Linear(20, 10)]


class LeNet(nn.Sequential):
    def __init__(self, version: int):
        super().__init__(
            *[nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)],
            *[nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), Flat()],
            *[nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 20), nn.ReLU()],
            *split_head(version),
        )


class AlexNet(nn.Sequential):
    def __init__(self, version: int):
        super().__init__(
            *[nn.Conv2d(1, 64, 3, stride=2, padding=1), nn.ReLU(), nn.MaxPool2d(2)],
            *[nn.Conv2d(64, 192, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)],
            *[nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()],
            *[nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()],
            *[nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), Flat()],
            *[nn.Linear(1024, 20), nn.ReLU()],
            *split_head(version),
        )


PLANS = {
    "vgg11": "1 M 2 M 4 4 M 8 8 M 8 8 M",
    "vgg13": "1 1 M 2 2 M 4 4 M 8 8 M 8 8 M",
    "vgg16": "1 1 M 2 2 M 4 4 4 M 8 8 8 M 8 8 8 M",
    "vgg19": "1 1 M 2 2 M 4 4 4 4 M 8 8 8 8 M 8 8 8 8 M",
}


def convolutions(plan: str, width: int, *, batch_norm: bool) -> list[nn.Module]:
    layers, previous = [], 3
    for entry in PLANS[plan].split():
        if entry == "M":
            layers.append(nn.MaxPool2d(2))
            continue
        channels = width * int(entry)
        layers.append(nn.Conv2d(previous, channels, 3, padding=1))
        layers += [nn.BatchNorm2d(channels)] if batch_norm else []
        layers.append(nn.ReLU())
        previous = channels
    return layers


class VGG(nn.Sequential):
    def __init__(self, plan: str, width: int = 64, hidden: int = 4096):
        super().__init__(
            *convolutions(plan, width, batch_norm=False),
            Flat(),
            *[nn.Linear(8 * width, hidden), nn.BatchNorm1d(hidden), nn.ReLU()],
            *[nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 10)],
        )


class VGGA(nn.Sequential):
    def __init__(self, width: int = 64):
        hidden = 8 * width
        super().__init__(
            *convolutions("vgg11", width, batch_norm=True),
            Flat(),
            *[nn.Linear(hidden, hidden), nn.BatchNorm1d(hidden), nn.ReLU()],
            *[nn.Linear(hidden, hidden), nn.BatchNorm1d(hidden), nn.ReLU()],
            nn.Linear(hidden, 10),
        )


def conv3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)


def conv1(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)


class Residual(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int, bottleneck: bool):
        super().__init__()
        outputs = 4 * width if bottleneck else width
        if bottleneck:
            layers = [conv1(inputs, width), nn.BatchNorm2d(width), nn.ReLU()]
            layers += [conv3(width, width, stride), nn.BatchNorm2d(width), nn.ReLU(), conv1(width, outputs)]
        else:
            layers = [conv3(inputs, width, stride), nn.BatchNorm2d(width), nn.ReLU(), conv3(width, width)]
        self.main = nn.Sequential(*layers, nn.BatchNorm2d(outputs))
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Sequential(*([] if same else [conv1(inputs, outputs, stride), nn.BatchNorm2d(outputs)]))

    def forward(self, x: Tensor) -> Tensor:
        y = self.main(x)
        return functional.relu(y + self.shortcut(x))


class ResNet(nn.Module):
    def __init__(self, blocks: tuple[int, ...], bottleneck: bool, width: int = 64):
        super().__init__()
        self.stem = nn.Sequential(conv3(3, width), nn.BatchNorm2d(width), nn.ReLU())
        layers, inputs = [], width
        for stage, count in enumerate(blocks):
            channels = width * 2**stage
            for number in range(count):
                stride = 1 if stage == 0 or number > 0 else 2
                layers.append(Residual(inputs, channels, stride, bottleneck))
                inputs = 4 * channels if bottleneck else channels
        self.blocks, self.last = nn.Sequential(*layers), nn.Linear(inputs, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.blocks(self.stem(x)).mean((2, 3)))


class Dense(nn.Module):
    def __init__(self, inputs: int, growth: int):
        super().__init__()
        self.layers = nn.Sequential(
            *[nn.BatchNorm2d(inputs), nn.ReLU(), conv1(inputs, 4 * growth)],
            *[nn.BatchNorm2d(4 * growth), nn.ReLU(), conv3(4 * growth, growth)],
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.layers(x), x], dim=1)


class DenseNet(nn.Module):
    def __init__(self, blocks: tuple[int, ...], growth: int = 32):
        super().__init__()
        channels = 2 * growth
        layers: list[nn.Module] = [conv3(3, channels)]
        for index, count in enumerate(blocks):
            for _ in range(count):
                layers.append(Dense(channels, growth))
                channels += growth
            if index < len(blocks) - 1:
                layers += [nn.BatchNorm2d(channels), nn.ReLU(), conv1(channels, channels // 2), nn.AvgPool2d(2)]
                channels //= 2
        self.blocks = nn.Sequential(*layers, nn.BatchNorm2d(channels), nn.ReLU())
        self.last = nn.Linear(channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.blocks(x).mean((2, 3)))
