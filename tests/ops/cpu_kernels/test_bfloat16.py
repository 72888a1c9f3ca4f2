"""Training in bfloat16 on CPUs: what is refused, and that it follows float32."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.jax_model import build as build_model
from benchmarks.jax_model import make_config, random_batch
from jaxnets import config as config_lib
from jaxnets.errors import ConfigError
from jaxnets.experiment.resolve import check_bfloat16
from jaxnets.ops import cpu_kernels
from jaxnets.ops.cpu_kernels import Kernels, build

STEPS = 8


@pytest.fixture
def config() -> Any:
    """Returns a config of training in bfloat16."""
    config = config_lib.default_config()
    config.model.update({"name": "lenet5", "compute_dtype": "bfloat16"})
    return config


def test_it_needs_the_kernels(config: Any) -> None:
    with pytest.raises(ConfigError, match=r"compute_dtype=bfloat16 needs the C\+\+ kernels .*build_kernels"):
        check_bfloat16(config)


def test_it_needs_instructions_unless_they_are_emulated(
    config: Any, kernels: tuple[Kernels, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    (portable,) = [each for each in kernels if each.instructions == "portable"]
    monkeypatch.setattr(cpu_kernels, "_in_use", portable)
    with pytest.raises(ConfigError, match="AVX512-BF16 or AMX.* JAXNETS_EMULATE_BF16=1 .*for tests only"):
        check_bfloat16(config)
    monkeypatch.setenv("JAXNETS_EMULATE_BF16", "1")
    check_bfloat16(config)


def test_emulation_ignores_the_instructions(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAXNETS_EMULATE_BF16", "1")
    with cpu_kernels.enabled(build.library_path(built)):
        in_use = cpu_kernels.in_use()
        assert in_use is not None
        assert not in_use.multiplies_bfloat16


@pytest.mark.parametrize(("network", "learning_rate"), [("resnet50", 0.01), ("lenet5", 0.1)])
def test_the_loss_follows_float32(kernels: tuple[Kernels, ...], network: str, learning_rate: float) -> None:
    config = make_config(network, 32, 8)
    config.optimizer.learning_rate = learning_rate
    if network == "resnet50":
        config.model.update({"stage_sizes": (1, 1), "width": 16})
    batch = random_batch(config, 0)

    def losses(compute_dtype: str | None, implementation: Kernels) -> np.ndarray:
        config.model.compute_dtype = compute_dtype
        built = build_model(config, implementation=implementation)
        state, step, found = jax.device_put(built.state), jax.jit(built.train_step), []
        on_device = jax.device_put(batch)
        for _ in range(STEPS):
            state, metrics = step(state, on_device)
            found.append(metrics["loss"] / metrics["weight_sum"])
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(state.params))
        return np.asarray(jax.device_get(found))

    expected = losses(None, kernels[-1])
    assert expected[-1] < 0.9 * expected[0]
    for implementation in (kernels[0], kernels[1], kernels[-1]):
        np.testing.assert_allclose(losses("bfloat16", implementation), expected, rtol=0.05)
