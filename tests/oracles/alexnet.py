"""The AlexNet of reports C ("pool3") and E ("pool2") in PyTorch, rewritten from their listings."""

import torch
from torch import nn


class AlexNet(nn.Module):
    """Images [B, 3, 32, 32] -> logits [B, 10]; 57,023,306 or 56,826,698 parameters."""

    def __init__(self, variant: str, num_classes: int = 10, dropout: float = 0.5):
        super().__init__()
        window, second = {"pool3": (3, 5), "pool2": (2, 3)}[variant]
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=window, stride=2),
            nn.Conv2d(64, 192, kernel_size=second, padding=second // 2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=window, stride=2),
            nn.Conv2d(192, 384, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, 256, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=window, stride=2),
        )
        self.avgpool = nn.AdaptiveAvgPool2d((6, 6))
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(256 * 6 * 6, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
            nn.Linear(4096, num_classes),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.flatten(self.avgpool(self.features(x)), 1)
        return self.classifier(x)
