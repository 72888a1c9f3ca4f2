"""The rows of an accelerator: every network, bfloat16, against PyTorch compiled for the same card."""

import functools
import math
from collections.abc import Callable, Mapping

from benchmarks import jax_workloads, torch_workloads
from benchmarks.measure import Row
from jaxnets import models

BATCHES = (256, 64)
SIZES: Mapping[str, int] = {
    "lenet5": 28,
    "alexnet": 32,
    "inception_v3": 299,
    "inception_resnet_v2": 299,
}
"""Pixels a side by network; others have `USUAL_SIZE`."""
USUAL_SIZE = 224
DRY_BATCH = 2
LOSS_TOLERANCE, DRY_LOSS_TOLERANCE = 0.2, math.inf
"""bfloat16 does not know a loss well: ResNet-50's at 64 px differed by 5 %. Its own loss is shown, not
the update, which the network's row on a CPU checks; for two tiny images it means nothing.
"""
OPPONENT = "torch.compile, channels_last, bfloat16 autocast"


def rows(*, dry: bool = False) -> dict[str, Callable[[int], Row]]:
    """By name, what makes a row for so many threads.

    A `dry` run is for trying everything where there is no such card: the smallest images, two at a time,
    and torch.compile without its compiler.
    """
    found: dict[str, Callable[[int], Row]] = {}
    images = {name: entry for name, entry in models.REGISTRY.items() if entry.kind == "image"}
    for batch_size in (DRY_BATCH,) if dry else BATCHES:
        for kind in ("train", "inference"):
            for network, entry in images.items():
                size = entry.smallest if dry else SIZES.get(network, USUAL_SIZE)
                size = max(size, 28) if network == "lenet5" else size
                name = f"{kind}/{network}/{size}/{batch_size}/bfloat16"
                found[name] = functools.partial(
                    _row,
                    name,
                    network=network,
                    image_size=size,
                    batch_size=batch_size,
                    trains=kind == "train",
                    compiler="eager" if dry else "inductor",
                    loss_tolerance=DRY_LOSS_TOLERANCE if dry else LOSS_TOLERANCE,
                )
    return found


def _row(
    name: str,
    threads: int,
    *,
    network: str,
    image_size: int,
    batch_size: int,
    trains: bool,
    compiler: str,
    loss_tolerance: float,
) -> Row:
    ours = jax_workloads.TrainingSide if trains else jax_workloads.InferenceSide
    theirs = torch_workloads.TrainingSide if trains else torch_workloads.InferenceSide
    shape = {"network": network, "image_size": image_size, "batch_size": batch_size}
    opponent = functools.partial(theirs, channels_last=True, threads=threads, compiler=compiler, half=True)
    what = "training step" if trains else "inference"
    title = f"{what}, {models.entry(network).title}, {image_size} px, batch {batch_size}, bfloat16"
    return Row(
        name,
        title,
        functools.partial(ours, **shape, compute_dtype="bfloat16"),
        {OPPONENT: opponent},
        on_gpu=True,
        loss_tolerance=loss_tolerance if trains else None,
    )
