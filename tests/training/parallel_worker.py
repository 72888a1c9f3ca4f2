"""Takes three steps of a narrow ResNet with batch norm and writes the state; run by test_parallel.py.

python parallel_worker.py OUT.npz DTYPE SYNC [COORDINATOR NUM_PROCESSES PROCESS_ID]
"""

import sys
import warnings

import jax
import numpy as np
import optax
from flax import traverse_util


def main(out: str, dtype: str, sync: str, *distributed: str) -> None:
    if dtype == "float64":
        jax.config.update("jax_enable_x64", True)
    from jaxnets.training import parallel

    if distributed:
        coordinator, processes, process = distributed
        parallel.initialize_distributed(coordinator, int(processes), int(process))
    from jaxnets import config as recipes
    from jaxnets import models
    from jaxnets.training.loss import make_loss
    from jaxnets.training.optimizer import make_optimizer
    from jaxnets.training.preprocess import make_preprocess
    from jaxnets.training.state import TrainState
    from jaxnets.training.step import make_eval_step, make_train_step

    warnings.simplefilter("error")
    config = recipes.recipe()
    config.model.name, config.model.num_classes = "resnet50", 3
    config.model.stage_sizes, config.model.width = (1, 1, 1, 1), 8
    config.model.dtype, config.model.sync_batch_norm = dtype, sync == "sync"
    config.augment.flip_horizontal = config.augment.right_angles = True
    devices = parallel.Devices.all()
    model = models.create(config.model, axis_name=devices.axis_name)
    optimizer = make_optimizer(config, optax.constant_schedule(0.05))
    variables = models.initialize(model, jax.random.key(1), (1, 32, 32, 3))
    state = devices.replicate(TrainState.create(variables, optimizer, seed=0))
    loss = make_loss(config.train)
    step = devices.compile_step(
        make_train_step(
            model,
            loss,
            optimizer,
            preprocess=make_preprocess(config, train=True),
            axis_name=devices.axis_name,
        ),
        donate=True,
    )
    evaluate = devices.compile_step(
        make_eval_step(
            model,
            loss,
            preprocess=make_preprocess(config, train=False),
            axis_name=devices.axis_name,
        ),
        donate=False,
    )
    generator = np.random.default_rng(0)
    losses = []
    for number in range(3):
        batch = {
            "image": generator.integers(0, 256, (16, 32, 32, 3), dtype=np.uint8),
            "label": generator.integers(0, 3, 16, dtype=np.int32),
            "index": np.arange(16, dtype=np.int64) + 16 * number,
            "epoch": np.zeros(16, np.int32),
            "weight": np.ones(16, np.float32),
        }
        mine = {name: values[devices.share(16)] for name, values in batch.items()}
        placed = devices.place(mine)
        state, metrics = step(state, placed)
        losses.append(float(metrics["loss"] / metrics["normalizer"]))
    mine["weight"] = np.where(mine["index"] % 5 == 0, 0, 1).astype(np.float32)
    sums = jax.device_get(evaluate(state, devices.place(mine)))
    if devices.is_first:
        trees = {"params": state.params, "batch_stats": state.batch_stats}
        flat = traverse_util.flatten_dict(jax.device_get(trees), sep="/")
        np.savez(out, losses=losses, examples=sums["examples"], loss=sums["loss"], **flat)


if __name__ == "__main__":
    main(*sys.argv[1:])
