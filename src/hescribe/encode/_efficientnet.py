"""The EfficientNet-Lite0 network.

Tan and Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, ICML 2019,
arXiv:1905.11946. The Lite variant (TensorFlow, 2020) has no squeeze-and-excitation and uses ReLU6.
"""

import torch
from torch import nn

# (repeats, kernel, stride of the first, expansion, channels out) of each stage
STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
          (1, 3, 1, 6, 320))  # fmt: skip
EPS = 1e-3  # of the batch normalisation, as in the TensorFlow original


class HalvingConv(nn.Conv2d):
    """A convolution of stride 2, padded as TensorFlow's SAME does on an even input.

    That is one pixel less in total than symmetric padding, the odd one on the right and below. The weights
    were trained that way: symmetric padding shifts every feature map.
    """

    def __init__(self, n_in: int, n_out: int, kernel: int, *, groups: int = 1) -> None:
        super().__init__(n_in, n_out, kernel, stride=2, groups=groups, bias=False)
        before = (kernel - 2) // 2
        self.pad = (before, kernel - 2 - before) * 2  # left, right, top, bottom

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Pad with zeros and convolve."""
        return super().forward(nn.functional.pad(x, self.pad))


def depthwise(n: int, kernel: int, stride: int) -> nn.Conv2d:
    """Return a convolution that filters each channel by itself."""
    if stride == 2:
        return HalvingConv(n, n, kernel, groups=n)
    return nn.Conv2d(n, n, kernel, padding=kernel // 2, groups=n, bias=False)


class Block(nn.Module):
    """Inverted bottleneck: widen by 1x1, filter each channel, narrow by 1x1, add the input where shapes allow."""

    def __init__(self, n_in: int, n_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = n_in * expansion
        if expansion > 1:
            self.expand_conv, self.bn0 = nn.Conv2d(n_in, wide, 1, bias=False), nn.BatchNorm2d(wide, eps=EPS)
        self.depthwise_conv = depthwise(wide, kernel, stride)
        self.bn1 = nn.BatchNorm2d(wide, eps=EPS)
        self.project_conv, self.bn2 = nn.Conv2d(wide, n_out, 1, bias=False), nn.BatchNorm2d(n_out, eps=EPS)
        self.widens, self.adds_input = expansion > 1, stride == 1 and n_in == n_out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(n, n_in, h, w)`` to ``(n, n_out, h / stride, w / stride)``."""
        wide = nn.functional.relu6(self.bn0(self.expand_conv(x))) if self.widens else x
        wide = nn.functional.relu6(self.bn1(self.depthwise_conv(wide)))
        y: torch.Tensor = self.bn2(self.project_conv(wide))
        return x + y if self.adds_input else y


class EfficientNetLite0(nn.Module):
    """Map normalised images ``(n, 3, 224, 224)`` to pooled features ``(n, 1280)``."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem, self.bn0 = HalvingConv(3, 32, 3), nn.BatchNorm2d(32, eps=EPS)
        blocks, n_in = [], 32
        for repeats, kernel, stride, expansion, n_out in STAGES:
            for i in range(repeats):
                blocks.append(Block(n_in, n_out, kernel, stride if i == 0 else 1, expansion))
                n_in = n_out
        self.blocks = nn.Sequential(*blocks)
        self.conv_head, self.bn1 = nn.Conv2d(n_in, 1280, 1, bias=False), nn.BatchNorm2d(1280, eps=EPS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the pooled features."""
        x = nn.functional.relu6(self.bn0(self.conv_stem(x)))
        x = nn.functional.relu6(self.bn1(self.conv_head(self.blocks(x))))
        return x.mean(dim=(2, 3))
