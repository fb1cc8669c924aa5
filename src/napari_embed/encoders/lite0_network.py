"""EfficientNet-Lite0 as a feature extractor.

EfficientNet-B0 without squeeze-and-excitation and with ReLU6 instead of Swish (M. Tan,
Q. V. Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
ICML 2019, table 1; the Lite family was published with TensorFlow's model garden).
Module names are those of the published weights file.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import conv2d, pad, relu6
from torch.nn.utils.fusion import fuse_conv_bn_eval

__all__ = ["Lite0Network"]

# kernel, stride, expansion, channels, repeats
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
NORM_EPSILON = 1e-3


class SameConv2d(nn.Conv2d):
    """A convolution padded as in TensorFlow: the extra pixel is at the end."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve (b, c, h, w); the result has ceil(h / stride) rows."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        extra_h = _same_padding(x.shape[-2], kernel, stride)
        extra_w = _same_padding(x.shape[-1], kernel, stride)
        if extra_h % 2 == 0 and extra_w % 2 == 0:
            padding = (extra_h // 2, extra_w // 2)
            return conv2d(
                x, self.weight, self.bias, self.stride, padding, 1, self.groups
            )
        sides = (
            extra_w // 2,
            extra_w - extra_w // 2,
            extra_h // 2,
            extra_h - extra_h // 2,
        )
        return super().forward(pad(x, sides))


def _same_padding(size: int, kernel: int, stride: int) -> int:
    return max((-(-size // stride) - 1) * stride + kernel - size, 0)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=NORM_EPSILON)


class InvertedBottleneck(nn.Module):
    """Expand, filter each channel, project; the input is added where shapes allow."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int
    ) -> None:
        super().__init__()
        wide = inputs * expansion
        self.has_expansion = expansion != 1
        self.has_skip = stride == 1 and inputs == outputs
        if self.has_expansion:
            self._expand_conv = SameConv2d(inputs, wide, 1)
            self._bn0: nn.Module = _norm(wide)
        self._depthwise_conv = SameConv2d(wide, wide, kernel, stride, groups=wide)
        self._bn1: nn.Module = _norm(wide)
        self._project_conv = SameConv2d(wide, outputs, 1)
        self._bn2: nn.Module = _norm(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (b, inputs, h, w) to (b, outputs, h / stride, w / stride)."""
        y: torch.Tensor = x
        if self.has_expansion:
            y = relu6(self._bn0(self._expand_conv(y)))
        y = relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.has_skip else y


class Lite0Network(nn.Module):
    """(b, 3, h, w) float, (value - 127) / 128, to (b, 1280) features."""

    features_dim = 1280

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = SameConv2d(3, 32, 3, 2)
        self._bn0: nn.Module = _norm(32)
        blocks, channels = [], 32
        for kernel, stride, expansion, outputs, repeats in STAGES:
            for i in range(repeats):
                step = stride if i == 0 else 1
                blocks.append(
                    InvertedBottleneck(channels, outputs, kernel, step, expansion)
                )
                channels = outputs
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = SameConv2d(channels, self.features_dim, 1)
        self._bn1: nn.Module = _norm(self.features_dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the pooled features before the classifier."""
        x = relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        x = relu6(self._bn1(self._conv_head(x)))
        return x.float().mean((2, 3))

    def fuse(self) -> Lite0Network:
        """Fold every normalisation into its convolution; the network must be in eval.

        Returns itself. The result differs by rounding only and is faster.
        """
        pairs = {
            "_conv_stem": "_bn0",
            "_conv_head": "_bn1",
            "_expand_conv": "_bn0",
            "_depthwise_conv": "_bn1",
            "_project_conv": "_bn2",
        }
        for module in (self, *self._blocks):
            for conv, norm in pairs.items():
                if conv in module._modules:
                    convolution, normalisation = (
                        getattr(module, conv),
                        getattr(module, norm),
                    )
                    setattr(module, conv, fuse_conv_bn_eval(convolution, normalisation))
                    setattr(module, norm, nn.Identity())
        return self.requires_grad_(False)
