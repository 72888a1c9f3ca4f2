"""Networks with the C++ kernels: a training step and an export."""

from typing import Any

import jax
import numpy as np
import optax
import pytest

from jaxnets import config as config_lib
from jaxnets import models
from jaxnets.commands import export
from jaxnets.interop.weights import Preprocessing, Weights
from jaxnets.ops import cpu_kernels
from jaxnets.ops.cpu_kernels import Implementation, Kernels
from jaxnets.training.loss import make_loss
from jaxnets.training.optimizer import make_optimizer
from jaxnets.training.preprocess import make_preprocess
from jaxnets.training.step import TrainState, make_train_step

SIZE = 32
KERNELS = "jaxnets_"  # prefix of the C++ functions in a program


def _config() -> Any:
    config = config_lib.default_config()
    narrow = {"name": "resnet50", "num_classes": 3, "stage_sizes": (1,), "width": 8}
    config.model.update(narrow)
    config.optimizer.learning_rate = 0.1
    return config


def _step(config: Any, implementation: Implementation, batch: dict[str, np.ndarray]) -> tuple[Any, Any, str]:
    """Returns the state before and after one step, and the program."""
    model = models.create(config.model).clone(implementation=implementation)
    optimizer = make_optimizer(config, optax.constant_schedule(config.optimizer.learning_rate))
    variables = models.initialize(model, jax.random.key(1), (1, SIZE, SIZE, 3))
    state = TrainState.create(variables, optimizer, seed=0, with_ema=False)
    preprocess = make_preprocess(config, train=True)
    step = jax.jit(make_train_step(model, make_loss(config.train), optimizer, preprocess=preprocess))
    lowered = step.lower(state, batch)
    return state, lowered.compile()(state, batch), lowered.as_text()


def test_training_step_matches_by_shape(kernels: tuple[Kernels, ...]) -> None:
    generator = np.random.default_rng(0)
    batch = {
        "image": generator.integers(0, 256, (8, SIZE, SIZE, 3), dtype=np.uint8),
        "label": generator.integers(0, 3, 8, dtype=np.int32),
        "index": np.arange(8, dtype=np.int64),
        "epoch": np.zeros(8, np.int32),
        "weight": np.ones(8, np.float32),
    }
    _, (expected, sums), by_shape = _step(_config(), "by_shape", batch)
    before, (state, our_sums), in_cpp = _step(_config(), kernels[-1], batch)
    for function in set(cpu_kernels.FUNCTIONS) - {"pack_kernel", "convolution_packed"}:
        assert f"{KERNELS}{kernels[-1].library}_{function}" in in_cpp
    assert KERNELS not in by_shape
    for name, total in sums.items():
        np.testing.assert_allclose(our_sums[name], total, rtol=1e-5, err_msg=name)
    for tree, other, initial in (
        (state.params, expected.params, before.params),
        (state.batch_stats, expected.batch_stats, before.batch_stats),
    ):
        ours, theirs = (
            jax.tree.map(lambda new, old: np.asarray(new - old), new, initial) for new in (tree, other)
        )
        old = dict(jax.tree_util.tree_leaves_with_path(initial))
        for path, moved in jax.tree_util.tree_leaves_with_path(theirs):
            mine = dict(jax.tree_util.tree_leaves_with_path(ours))[path]
            rounding = np.finfo(np.float32).eps * np.abs(old[path]).max()  # of the initial value
            assert np.abs(mine - moved).max() <= 1e-4 * np.abs(moved).max() + rounding, path


def test_export_uses_the_xla_implementation(
    kernels: tuple[Kernels, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_kernels, "_in_use", kernels[-1])
    model, shape = _config().model, (SIZE, SIZE, 3)
    network = models.create(model)
    variables = models.initialize(network, jax.random.key(0), (1, *shape))
    images = np.random.default_rng(0).integers(0, 256, (2, *shape), np.uint8)
    preprocessing = Preprocessing(SIZE, (0.5,) * 3, (0.25,) * 3)
    program = export.program(Weights(variables, model, shape), preprocessing)

    direct = jax.jit(network.apply)
    inputs = (images / np.float32(255) - np.float32(0.5)) / np.float32(0.25)
    assert KERNELS in direct.lower(variables, inputs).as_text()  # the network itself uses the kernels
    text = str(program.mlir_module())
    assert KERNELS not in text
    # Only the classifier is a matrix product; `by_shape` would also use products for 1x1 kernels.
    assert text.count("stablehlo.dot_general") == len(export.PLATFORMS)
    assert model.implementation == "auto"  # the stored config is unchanged
    logits = program.call(dict(export.flatten(variables)), images)
    np.testing.assert_allclose(logits, direct(variables, inputs), rtol=1e-4, atol=1e-5)
