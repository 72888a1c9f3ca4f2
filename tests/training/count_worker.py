"""Prints the collective operations of a compiled training step on two devices; run by test_devices.py."""

import json
import re

import jax
import numpy as np
from parallel_worker import batches, build, make_config

from jaxnets.training.devices import Devices

OPERATION = re.compile(
    r"= (\S.*?) (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute|collective-broadcast)"
    r"(?:-start)?\("
)
SHAPE = re.compile(r"\w+\[([\d,]*)\]")


def collectives(program: str) -> list[tuple[str, int]]:
    """Returns the name of each operation and the number of values in its results."""
    return [
        (name, sum(int(np.prod([int(n) for n in shape.split(",") if n])) for shape in SHAPE.findall(shapes)))
        for shapes, name in OPERATION.findall(program)
    ]


def main() -> None:
    devices, found = Devices.all(), {}
    assert devices.count == 2
    for sync in ("sync", "per_device"):
        state, train_step, _ = build(make_config("float32", sync, 1), devices.axis_name)
        state, batch = devices.replicate(state), devices.shard_batch(batches()[0])
        step = devices.compile_step(train_step, donate=True).compile(state, batch)
        found[sync] = collectives(step.as_text())
    metrics = 4  # loss, weight_sum, correct, examples
    sizes = [leaf.size for leaf in jax.tree.leaves((state.params, state.batch_stats))]
    norms = len(jax.tree.leaves(state.batch_stats)) // 2
    print(json.dumps({**found, "reduced": sum(sizes) + metrics, "norms": norms}))


if __name__ == "__main__":
    main()
