"""Writes tests/golden/*.json: python tests/golden/make_goldens.py.

A golden file has a network's logits, loss and, for each tensor, the norm of its gradient and the product
with a random direction (which flipping or permuting changes), in double precision. Weights and batches are
drawn by numpy. The code matched PyTorch when the files were written (tests/models/test_parity.py); a commit
that changes them says why.
"""

import json
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets import config as config_lib
from jaxnets import models
from jaxnets.training.loss import cross_entropy

CASES = {
    "lenet5": {"model": {"name": "lenet5", "num_classes": 10}, "shape": (4, 28, 28, 1)},
    "resnet50": {"model": {"name": "resnet50", "num_classes": 3}, "shape": (4, 48, 48, 3)},
    "resnet_short": {
        "model": {"name": "resnet50", "num_classes": 3, "stage_sizes": (1, 2, 1, 1)},
        "shape": (4, 48, 48, 3),
    },
}


def compute(case: dict[str, Any]) -> dict[str, Any]:
    """Returns logits in evaluation and training, loss, gradient norms and products, and statistics norms."""
    config = config_lib.default_config()
    config.model.update({**case["model"], "dtype": "float64"})
    model = models.create(config.model)
    generator = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: models.initialize(model, jax.random.key(0), case["shape"]))
    variables = jax.tree_util.tree_map_with_path(lambda p, s: _draw(generator, p, s), shapes)
    x = jnp.asarray(generator.normal(size=case["shape"]))
    labels = jnp.asarray(generator.integers(0, config.model.num_classes, case["shape"][0]))
    targets = jax.nn.one_hot(labels, config.model.num_classes, dtype=x.dtype)

    @jax.jit
    def run(variables: Any) -> Any:
        def loss(params: Any) -> Any:
            logits, updates = model.apply(
                {**variables, "params": params}, x, train=True, mutable=["batch_stats"]
            )
            total, count = cross_entropy(logits, targets, jnp.ones(len(labels), x.dtype))
            return total / count, (logits, updates)

        (value, (logits, updates)), gradient = jax.value_and_grad(loss, has_aux=True)(variables["params"])
        return model.apply(variables, x, train=False), logits, value, gradient, updates

    evaluated, trained, value, gradient, updates = run(variables)
    return {
        "logits": np.asarray(evaluated).tolist(),
        "training_logits": np.asarray(trained).tolist(),
        "loss": float(value),
        "gradient_norms": _norms(gradient),
        "gradient_products": _products(gradient),
        "statistics_norms": _norms(updates),
    }


def _draw(generator: np.random.Generator, path: Any, shape: Any) -> jax.Array:
    name = path[-1].key
    if name == "kernel":
        fan_in = math.prod(shape.shape[:-1])
        return jnp.asarray(generator.normal(0, fan_in**-0.5, shape.shape))
    if name in ("scale", "var"):
        return jnp.asarray(generator.uniform(0.5, 1.5, shape.shape))
    return jnp.asarray(generator.normal(0, 0.1, shape.shape))


def _norms(tree: Any) -> dict[str, float]:
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): float(jnp.linalg.norm(leaf))
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _products(tree: Any) -> dict[str, float]:
    """Returns the product of each tensor with a random direction, seeded by its position in the tree."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): float(
            np.sum(np.random.default_rng(position).normal(size=leaf.shape) * np.asarray(leaf))
        )
        for position, (path, leaf) in enumerate(jax.tree_util.tree_leaves_with_path(tree))
    }


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    for name, case in CASES.items():
        path = Path(__file__).with_name(f"{name}.json")
        path.write_text(json.dumps(compute(case), indent=1) + "\n")
        print(f"{path.name}: {path.stat().st_size:,} bytes")
