"""The comparisons of the gpu suite: every network in bfloat16 against compiled PyTorch."""

import functools
import math
from collections.abc import Mapping

from benchmarks import jax_workloads, torch_workloads
from benchmarks.baselines import Baseline
from benchmarks.comparisons import BenchContext, MakeComparison
from benchmarks.measure import Comparison
from jaxnets import models

BATCHES = (256, 64)
IMAGE_SIZES: Mapping[str, int] = {
    "lenet5": 28,
    "alexnet": 32,
    "inception_v3": 299,
    "inception_resnet_v2": 299,
}
DEFAULT_IMAGE_SIZE = 224
DRY_RUN_BATCH = 2
LOSS_TOLERANCE, DRY_RUN_LOSS_TOLERANCE = 0.2, math.inf
"""Losses in bfloat16 are inexact: that of ResNet-50 at 64 px differed by 5 %.

This checks the loss, not the update, which the network's row in the cpu suite checks. The loss of two tiny
images is not checked.
"""
BASELINE = "torch.compile, channels_last, bfloat16 autocast"


def comparisons(*, dry_run: bool = False) -> dict[str, MakeComparison]:
    """Returns the comparisons by row name.

    A dry run tests the suite on any device: smallest images, batch size 2, torch.compile with the backend
    "eager".
    """
    found: dict[str, MakeComparison] = {}
    for batch_size in (DRY_RUN_BATCH,) if dry_run else BATCHES:
        for kind in ("train", "inference"):
            for network, entry in models.REGISTRY.items():
                if entry.kind != "image":
                    continue
                size = entry.smallest if dry_run else IMAGE_SIZES.get(network, DEFAULT_IMAGE_SIZE)
                size = max(size, 28) if network == "lenet5" else size
                found[f"{kind}/{network}/{size}/{batch_size}/bfloat16"] = functools.partial(
                    _comparison,
                    network=network,
                    image_size=size,
                    batch_size=batch_size,
                    trains=kind == "train",
                    dry_run=dry_run,
                )
    return found


def _comparison(
    name: str,
    context: BenchContext,
    *,
    network: str,
    image_size: int,
    batch_size: int,
    trains: bool,
    dry_run: bool,
) -> Comparison:
    ours = jax_workloads.TrainingWorkload if trains else jax_workloads.InferenceWorkload
    theirs = torch_workloads.TrainingWorkload if trains else torch_workloads.InferenceWorkload
    shape = {"network": network, "image_size": image_size, "batch_size": batch_size}
    compiler = "eager" if dry_run else "inductor"
    options = {"channels_last": True, "threads": context.threads, "compiler": compiler, "bfloat16": True}
    what = "training step" if trains else "inference"
    tolerance = DRY_RUN_LOSS_TOLERANCE if dry_run else LOSS_TOLERANCE
    return Comparison(
        name,
        f"{what}, {models.entry(network).title}, {image_size} px, batch {batch_size}, bfloat16",
        functools.partial(ours, **shape, compute_dtype="bfloat16"),
        {BASELINE: Baseline(functools.partial(theirs, **options), keep_memory=False)},
        dtype="bfloat16",
        on_gpu=True,
        loss_tolerance=tolerance if trains else None,
    )
