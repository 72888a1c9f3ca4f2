"""Takes three steps of a narrow ResNet with batch norm and writes the state; run by test_devices.py.

python parallel_worker.py OUT.npz DTYPE SYNC STAGES [COORDINATOR NUM_PROCESSES PROCESS_ID]
"""

import sys
import warnings
from typing import Any

import jax
import numpy as np
import optax
from flax import traverse_util
from ml_collections import config_dict

from jaxnets import config as config_lib
from jaxnets import models
from jaxnets.training.devices import Devices, initialize_distributed
from jaxnets.training.loss import make_loss
from jaxnets.training.optimizer import make_optimizer
from jaxnets.training.preprocess import make_preprocess
from jaxnets.training.step import TrainState, make_eval_step, make_train_step

BATCH_SIZE, SIZE = 16, 32


def make_config(dtype: str, sync: str, stages: int) -> config_dict.ConfigDict:
    config = config_lib.default_config()
    config.model.name, config.model.num_classes = "resnet50", 3
    config.model.stage_sizes, config.model.width = (1,) * stages, 8
    config.model.dtype, config.model.sync_batch_norm = dtype, sync == "sync"
    config.augment.flip_horizontal = config.augment.right_angles = True
    return config


def batches() -> list[dict[str, np.ndarray]]:
    generator = np.random.default_rng(0)
    return [
        {
            "image": generator.integers(0, 256, (BATCH_SIZE, SIZE, SIZE, 3), dtype=np.uint8),
            "label": generator.integers(0, 3, BATCH_SIZE, dtype=np.int32),
            "index": np.arange(BATCH_SIZE, dtype=np.int64) + BATCH_SIZE * number,
            "epoch": np.zeros(BATCH_SIZE, np.int32),
            "weight": np.ones(BATCH_SIZE, np.float32),
        }
        for number in range(3)
    ]


def build(config: config_dict.ConfigDict, axis_name: str | None) -> tuple[TrainState, Any, Any]:
    """Returns the initial state, the training step and the evaluation step."""
    model = models.create(config.model, axis_name=axis_name)
    optimizer, loss = make_optimizer(config, optax.constant_schedule(0.05)), make_loss(config.train)
    variables = models.initialize(model, jax.random.key(1), (1, SIZE, SIZE, 3))
    train, evaluate = (make_preprocess(config, train=train) for train in (True, False))
    return (
        TrainState.create(variables, optimizer, seed=0),
        make_train_step(model, loss, optimizer, preprocess=train, axis_name=axis_name),
        make_eval_step(model, loss, preprocess=evaluate, axis_name=axis_name),
    )


def flat(state: TrainState) -> dict[str, np.ndarray]:
    trees = {"params": state.params, "batch_stats": state.batch_stats}
    return traverse_util.flatten_dict(jax.device_get(trees), sep="/")


def main(out: str, dtype: str, sync: str, stages: str, *distributed: str) -> None:
    jax.config.update("jax_enable_x64", dtype == "float64")
    if distributed:
        coordinator, processes, process = distributed
        initialize_distributed(coordinator, int(processes), int(process))
    warnings.simplefilter("error")
    devices = Devices.all()
    state, train_step, eval_step = build(make_config(dtype, sync, int(stages)), devices.axis_name)
    state = devices.replicate(state)
    step = devices.compile_step(train_step, donate=True)
    evaluate = devices.compile_step(eval_step, donate=False)
    losses, first = [], {}
    size = BATCH_SIZE // devices.process_count
    shard = slice(devices.process_index * size, (devices.process_index + 1) * size)
    for batch in batches():
        local = {name: values[shard] for name, values in batch.items()}
        state, metrics = step(state, devices.shard_batch(local))
        losses.append(float(metrics["loss"] / metrics["weight_sum"]))
        first = first or {f"first/{name}": value for name, value in flat(state).items()}
    local["weight"] = np.where(local["index"] % 5 == 0, 0, 1).astype(np.float32)
    sums = jax.device_get(evaluate(state, devices.shard_batch(local)))
    if devices.is_process_zero:
        evaluation = {name: sums[name] for name in ("examples", "loss", "probabilities")}
        np.savez(out, losses=losses, **evaluation, **first, **flat(state))


if __name__ == "__main__":
    main(*sys.argv[1:])
