"""README's table of the networks with configs, made from the registry and the reports' entries."""

import functools

import jax
import jax.numpy as jnp

from jaxnets import config as config_lib
from jaxnets import models, reported
from jaxnets.registry import NETWORKS

HEADS = ("network", "`model.name`", "parameters", "input", "reports", "config")
CONFIGS = {
    "resnet50": "lung_resnet",
    "densenet121": "lung_densenet",
    "inception_v1": "lung_inception_v1",
    "inception_v3": "lung_inception_v3",
    "inception_resnet_v2": "lung_inception_resnet_v2",
    "efficientnet_lite0": "lung_efficientnet",
    "alexnet": "alexnet_cifar10",
    "lenet5": "lenet_mnist",
    "mlp": "mlp_tanh",
}
"""The config files of the networks that have one, in the table's order."""
OTHERS = "image_folder"
"""The config file of the other networks, by `--config.model.name`."""


def rows() -> list[tuple[str, ...]]:
    """Returns a row per network; parameters are those without auxiliary heads, for 3 or 10 classes."""
    others = dict.fromkeys((name for name in NETWORKS if name not in CONFIGS), OTHERS)
    return [_row(name, config) for name, config in {**CONFIGS, **others}.items()]


def _row(name: str, config: str) -> tuple[str, ...]:
    entry = models.entry(name)
    size = entry.native_size
    pixels = f"{size} px" if entry.kind == "image" else "3 numbers"
    entries = map(reported.entry, reported.names())
    reports = sorted({each["report"] for each in entries if each["model"] == name})
    cells = (entry.title, f"`{name}`", f"{_parameters(name):,}", pixels, ", ".join(reports))
    return *cells, f"`{config}.py`"


def _parameters(name: str) -> int:
    entry, model = models.entry(name), config_lib.default_config().model
    model.name, model.implementation = name, "xla"  # which is traced fastest
    model.num_classes = 3 if entry.channels == 3 and entry.native_size > 32 else 10
    side = entry.native_size
    shape = (1, side, side, entry.channels) if entry.kind == "image" else (1, model.layer_sizes[0])
    init = functools.partial(models.create(model).init, jax.random.key(0))
    params = jax.eval_shape(init, jax.ShapeDtypeStruct(shape, jnp.float32))["params"]
    return models.count_parameters(params) - models.count_parameters(models.auxiliary_part(params))
