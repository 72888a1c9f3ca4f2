"""The network of benchmarks/depthwise.py, a part of MobileNetV2 with ReLU, in PyTorch."""

import torch
from torch import nn
from torch.nn import functional

STEM, EXPANSION = 16, 6
BLOCKS = ((24, 2), (24, 1), (32, 2), (32, 1), (64, 2), (64, 1))


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise 3x3, 1x1 projection: [B, C, H, W] -> [B, features, H/s, W/s]."""

    def __init__(self, channels: int, features: int, stride: int):
        super().__init__()
        width = EXPANSION * channels
        self.conv1, self.norm1 = nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, groups=width, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv3, self.norm3 = nn.Conv2d(width, features, 1, bias=False), nn.BatchNorm2d(features)
        self.is_residual = stride == 1 and channels == features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns [B, features, H/s, W/s]."""
        y = functional.relu(self.norm1(self.conv1(x)))
        y = functional.relu(self.norm2(self.conv2(y)))
        y = self.norm3(self.conv3(y))
        return x + y if self.is_residual else y


class DepthwiseNetwork(nn.Module):
    """Images [B, 3, H, W] -> logits [B, num_classes]."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, STEM, 3, stride=2, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(STEM)
        channels, self.names = STEM, []
        for number, (features, stride) in enumerate(BLOCKS):
            self.names.append(f"block{number}")
            self.add_module(self.names[-1], InvertedResidual(channels, features, stride))
            channels = features
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the logits."""
        x = functional.relu(self.norm1(self.conv1(x)))
        for name in self.names:
            x = getattr(self, name)(x)
        return self.classifier(x.mean((2, 3)))
