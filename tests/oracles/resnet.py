"""torchvision's ResNet with bottleneck blocks (v1.5), of any width."""

from collections.abc import Sequence

from torch import nn

from benchmarks.oracles import load


def resnet(num_classes: int, stage_sizes: Sequence[int] = (3, 4, 6, 3), width: int = 64) -> nn.Module:
    """Images [B, 3, H, W] -> logits [B, num_classes]; the defaults are those of torchvision's resnet50.

    torchvision fixes the first stage at 64 channels; for another width, stem, stages and head are replaced.
    """
    models = load("torchvision_import").import_torchvision().models.resnet
    network = models.ResNet(models.Bottleneck, list(stage_sizes), num_classes=num_classes)
    if width == 64:
        return network
    network.inplanes = width
    network.conv1 = nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False)
    network.bn1 = nn.BatchNorm2d(width)
    for stage, blocks in enumerate(stage_sizes):
        layer = network._make_layer(models.Bottleneck, width * 2**stage, blocks, stride=2 if stage else 1)
        setattr(network, f"layer{stage + 1}", layer)
    network.fc = nn.Linear(network.inplanes, num_classes)
    return network
