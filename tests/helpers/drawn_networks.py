"""Networks with drawn weights and statistics, small where their depth does not matter."""

from typing import Any

import jax
import numpy as np
from flax import traverse_util

from jaxnets import config as config_lib
from jaxnets import models

NETWORKS: dict[str, tuple[dict[str, Any], int]] = {
    "resnet50": ({"stage_sizes": (1, 2), "width": 16}, 32),
    "resnet50/keras": ({"stage_sizes": (1, 1), "width": 16, "variant": "keras"}, 32),
    "resnet18": ({}, 32),
    "vgg16_bn": ({}, 32),
    "xception": ({}, 40),
    "nasnet_mobile": ({}, 40),
    "densenet121": ({}, 32),
    "inception_v1": ({}, 32),
    "inception_v3": ({}, 80),
    "inception_resnet_v2": ({}, 80),
    "mobilenet_v2": ({}, 32),
    "mobilenet_v2/keras": ({"variant": "keras"}, 32),
    "efficientnet_b0": ({}, 32),
    "efficientnet_lite1": ({}, 37),
    "convnext_tiny": ({}, 40),
    "alexnet": ({}, 32),
    "lenet5": ({}, 28),
}
"""Fields and image size by name; the part after a slash distinguishes variants."""


def draw_network(name: str) -> tuple[Any, dict[str, Any], np.ndarray]:
    """Returns a network, variables with statistics far from their initial values, and images."""
    fields, size = NETWORKS[name]
    config = config_lib.default_config().model
    config.update({"name": name.partition("/")[0], "num_classes": 3, **fields})
    model, generator = models.create(config), np.random.default_rng(0)
    if config.name == "densenet121":
        model = model.clone(block_sizes=(2, 2), growth_rate=8)
    if config.name == "inception_resnet_v2":
        model = model.clone(repeats=(1, 1, 2))
    if config.name == "resnet18":
        model = model.clone(stage_sizes=(1, 2), width=16)
    if config.name == "convnext_tiny":
        model = model.clone(stage_sizes=(1, 1, 2, 1), widths=(16, 24, 32, 40))
    if config.name == "nasnet_mobile":
        model = model.clone(cells=1, width=8)
    images = generator.normal(size=(3, size, size, 1 if name == "lenet5" else 3)).astype(np.float32)
    variables = models.initialize(model, jax.random.key(0), images[:1].shape)
    ranges = {"mean": (-0.2, 0.2), "var": (0.5, 1.5)}
    drawn = {
        path: generator.uniform(*ranges[path[-1]], leaf.shape).astype(np.float32)
        for path, leaf in traverse_util.flatten_dict(variables["batch_stats"]).items()
    }
    return model, {**variables, "batch_stats": traverse_util.unflatten_dict(drawn)}, images
