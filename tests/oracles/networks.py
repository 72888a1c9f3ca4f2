"""PyTorch's networks for configs. Imports no JAX, which the benchmarks' PyTorch process does not have."""

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from ml_collections import config_dict
from torch.nn import functional

from benchmarks.oracles import load

COUNTER = "num_batches_tracked"
"""A counter of PyTorch's batch norm that is not used with a fixed momentum."""


def make_network(config: config_dict.ConfigDict) -> torch.nn.Module:
    """Returns the network of a config: from the reports' listings, torchvision or timm."""
    return NETWORKS[config.model.name](config)


def cross_entropy(outputs: Any, labels: torch.Tensor, config: config_dict.ConfigDict) -> torch.Tensor:
    """Returns the training loss, including auxiliary heads with the config's weight."""
    logits, *auxiliary = outputs if isinstance(outputs, tuple) else (outputs,)
    smoothing = config.train.label_smoothing
    loss = functional.cross_entropy(logits, labels, label_smoothing=smoothing)
    for other in auxiliary:
        if other is not None:
            term = functional.cross_entropy(other, labels, label_smoothing=smoothing)
            loss = loss + config.train.auxiliary_weight * term
    return loss


def load_arrays(network: torch.nn.Module, arrays: Mapping[str, np.ndarray]) -> None:
    """Loads arrays into a network; raises RuntimeError if names or shapes do not match."""
    counters = {name: buffer for name, buffer in network.named_buffers() if name.endswith(COUNTER)}
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    network.load_state_dict({**counters, **tensors})


def _lenet5(config: config_dict.ConfigDict) -> torch.nn.Module:
    return load("lenet5").LeNet5(config.model.num_classes)


def _alexnet(config: config_dict.ConfigDict) -> torch.nn.Module:
    model = config.model
    return load("alexnet").AlexNet(model.variant or "pool3", model.num_classes, model.dropout)


def _torchvision(config: config_dict.ConfigDict) -> torch.nn.Module:
    """The network of torchvision with the same name."""
    return getattr(load("torchvision_import").import_torchvision().models, config.model.name)(
        num_classes=config.model.num_classes
    )


def _vgg(config: config_dict.ConfigDict) -> torch.nn.Module:
    models = load("torchvision_import").import_torchvision().models
    return getattr(models, config.model.name)(
        num_classes=config.model.num_classes, dropout=config.model.dropout, init_weights=False
    )


def _xception(config: config_dict.ConfigDict) -> torch.nn.Module:
    load("torchvision_import").import_torchvision()
    import timm

    return timm.create_model(
        "legacy_xception", num_classes=config.model.num_classes, drop_rate=config.model.dropout
    )


def _resnet50(config: config_dict.ConfigDict) -> torch.nn.Module:
    model = config.model
    return load("resnet").resnet(model.num_classes, tuple(model.stage_sizes), model.width)


def _inception_v1(config: config_dict.ConfigDict) -> torch.nn.Module:
    model = config.model
    load("torchvision_import").import_torchvision()
    googlenet = importlib.import_module("torchvision.models.googlenet")
    network = googlenet.GoogLeNet(
        num_classes=model.num_classes,
        aux_logits=model.auxiliary_heads,
        init_weights=False,
        dropout=model.dropout,
        dropout_aux=model.auxiliary_dropout,
    )
    if model.variant == "paper":
        for block in network.modules():
            if isinstance(block, googlenet.Inception):
                conv = block.branch3[1]
                channels = (conv.conv.in_channels, conv.conv.out_channels)
                block.branch3[1] = googlenet.BasicConv2d(*channels, kernel_size=5, padding=2)
    return network


def _inception_v3(config: config_dict.ConfigDict) -> torch.nn.Module:
    model = config.model
    return (
        load("torchvision_import")
        .import_torchvision()
        .models.Inception3(
            num_classes=model.num_classes,
            aux_logits=model.auxiliary_heads and config.data.image_size >= 299,
            init_weights=False,
            dropout=model.dropout,
        )
    )


def _inception_resnet_v2(config: config_dict.ConfigDict) -> torch.nn.Module:
    load("torchvision_import").import_torchvision()
    import timm

    return timm.create_model(
        "inception_resnet_v2", num_classes=config.model.num_classes, drop_rate=config.model.dropout
    )


def _mobilenet_v2(config: config_dict.ConfigDict) -> torch.nn.Module:
    models = load("torchvision_import").import_torchvision().models
    return models.mobilenet_v2(num_classes=config.model.num_classes, dropout=config.model.dropout)


def _efficientnet_b0(config: config_dict.ConfigDict) -> torch.nn.Module:
    models = load("torchvision_import").import_torchvision().models
    return models.efficientnet_b0(
        num_classes=config.model.num_classes,
        dropout=config.model.dropout,
        stochastic_depth_prob=config.model.stochastic_depth,
    )


def _convnext_tiny(config: config_dict.ConfigDict) -> torch.nn.Module:
    models = load("torchvision_import").import_torchvision().models
    model = config.model  # torchvision's has no dropout
    return models.convnext_tiny(num_classes=model.num_classes, stochastic_depth_prob=model.stochastic_depth)


def _efficientnet_lite(config: config_dict.ConfigDict) -> torch.nn.Module:
    load("torchvision_import").import_torchvision()
    import timm

    return timm.create_model(
        f"tf_{config.model.name}",
        num_classes=config.model.num_classes,
        drop_rate=config.model.dropout,
        drop_path_rate=config.model.stochastic_depth,
    )


def _depthwise(config: config_dict.ConfigDict) -> torch.nn.Module:
    return load("depthwise").DepthwiseNetwork(config.model.num_classes)


NETWORKS = {
    "lenet5": _lenet5,
    "alexnet": _alexnet,
    **{f"resnet{layers}": _torchvision for layers in (18, 34, 101, 152)},
    "resnet50": _resnet50,
    "vgg16": _vgg,
    "vgg16_bn": _vgg,
    "xception": _xception,
    "inception_v1": _inception_v1,
    "inception_v3": _inception_v3,
    "inception_resnet_v2": _inception_resnet_v2,
    "densenet121": _torchvision,
    "mobilenet_v2": _mobilenet_v2,
    "efficientnet_b0": _efficientnet_b0,
    "convnext_tiny": _convnext_tiny,
    "efficientnet_lite0": _efficientnet_lite,
    "efficientnet_lite1": _efficientnet_lite,
    "efficientnet_lite2": _efficientnet_lite,
    "depthwise": _depthwise,
}
