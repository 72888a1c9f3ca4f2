"""The comparisons of the cpu, pipeline and startup suites."""

import contextlib
import dataclasses
import functools
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks import (
    baselines,
    conditions,
    depthwise,
    end_to_end,
    jax_workloads,
    mlp_workloads,
    startup,
    torch_workloads,
)
from benchmarks.baselines import PYTORCH, Baseline, with_both_allocators
from benchmarks.measure import LOSS_TOLERANCE, TOLERANCE, WITH_KERNELS, Comparison
from jaxnets import models
from jaxnets.data.sources.synthetic_tissue import SyntheticTissue
from jaxnets.errors import MachineError
from jaxnets.runtime import console
from studies.pages.bench_table import IN_JAX_ALONE

CPU, PIPELINE, STARTUP = "cpu", "pipeline", "startup"
TRAIN, INFERENCE = "train", "inference"
IMAGES, IMAGE_SIZE, JPEG_QUALITY = 1500, 224, 75
PIPELINE_BATCH = 32
JPEG_TITLE = f"JPEG against a DataLoader on JPEG, {IMAGE_SIZE} px"
LUNG_NETWORKS = ("resnet50", "inception_v1", "inception_v3", "inception_resnet_v2", "densenet121")
OTHER_NETWORKS = (
    *("resnet18", "resnet34", "resnet101", "resnet152", "vgg16", "vgg16_bn", "xception", "mobilenet_v2"),
    *("efficientnet_b0", "efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"),
    "convnext_tiny",
)
TRAINING_SIZES: Mapping[str, Sequence[tuple[int, int]]] = {
    "lenet5": ((28, 64),),
    "alexnet": ((32, 64),),
    **{network: ((64, 16), (128, 16), (224, 16)) for network in ("resnet50", "densenet121", depthwise.NAME)},
    **{name: ((75, 16), (128, 16), (224, 16)) for name in LUNG_NETWORKS if name.startswith("inception")},
    **{name: ((224, 16),) for name in OTHER_NETWORKS},
}
"""(image size, batch size) by network; 75 px is the smallest size of two Inceptions."""
INFERENCE_SIZES = {**TRAINING_SIZES, **{name: ((128, 16), (224, 16)) for name in LUNG_NETWORKS}}
INFERENCE_SIZES["resnet50"] = TRAINING_SIZES["resnet50"]
BFLOAT16_ROWS: Sequence[tuple[str, str, int]] = (
    *((TRAIN, "resnet50", size) for size in (64, 128, 224)),
    *((INFERENCE, network, 224) for network in ("resnet50", "densenet121")),
)
BFLOAT16 = "bfloat16"
BFLOAT16_TOLERANCE = 0.02
"""Tolerance of logits, two to three times the error of PyTorch's autocast at 224 px.

That differs from float32 by 0.008 (ResNet-50) and 0.006 (DenseNet-121) of the largest logit.
"""
BFLOAT16_LOSS_TOLERANCE = 0.12
"""Tolerance of training losses, twice the difference of PyTorch's autocast from float32.

That was 0.06 after one step of ResNet-50 at 64 px. The row in float32 checks the update more closely.
"""


@dataclasses.dataclass(frozen=True)
class BenchContext:
    """Inputs of the comparisons.

    Attributes:
      threads: CPU threads of a baseline.
      images: Folder of JPEGs (pipeline suite).
      data_root: Folder of MNIST (end-to-end row).
      kernels: Library of C++ kernels, for workloads that start processes themselves.
      baselines: What networks are compared with, of `baselines.KINDS`.
    """

    threads: int
    images: Path | None = None
    data_root: Path | None = None
    kernels: Path | None = None
    baselines: tuple[str, ...] = baselines.KINDS

    @property
    def implementation(self) -> str:
        """Name of the implementation that these workloads use."""
        return WITH_KERNELS if self.kernels else IN_JAX_ALONE


MakeComparison = Callable[[str, BenchContext], Comparison]


def network_row(
    name: str,
    context: BenchContext,
    *,
    network: str,
    image_size: int,
    batch_size: int,
    trains: bool,
    bfloat16: bool = False,
) -> Comparison:
    """Training step or inference of a network.

    Raises MachineError for bfloat16 on a processor without such instructions.
    """
    if bfloat16 and not conditions.has_bfloat16():
        raise MachineError(f"{name} is not measured: this processor has neither AMX nor AVX512-BF16")
    shape: dict[str, Any] = {"network": network, "image_size": image_size, "batch_size": batch_size}
    ours = jax_workloads.TrainingWorkload if trains else jax_workloads.InferenceWorkload
    entry = depthwise.ENTRY if network == depthwise.NAME else models.entry(network)
    what = "training step" if trains else "inference"
    title = f"{what}, {entry.title}, {image_size} px, batch {batch_size}"
    found = baselines.of_network(context.baselines, trains=trains, bfloat16=bfloat16, threads=context.threads)
    in_float32 = Comparison(
        name,
        title,
        functools.partial(ours, **shape),
        found,
        has_kernels=True,
        tolerance=None if trains else TOLERANCE,
        loss_tolerance=LOSS_TOLERANCE if trains else None,
    )
    if not bfloat16:
        return in_float32
    return dataclasses.replace(
        in_float32,
        title=f"{title}, {BFLOAT16}",
        ours=functools.partial(ours, **shape, compute_dtype=BFLOAT16),
        in_float32=in_float32.ours,
        dtype=BFLOAT16,
        tolerance=None if trains else BFLOAT16_TOLERANCE,
        loss_tolerance=BFLOAT16_LOSS_TOLERANCE if trains else None,
    )


def startup_row(name: str, context: BenchContext, *, network: str, warm: bool) -> Comparison:
    """Time from process start to the end of the first training step, compared with PyTorch."""
    theirs = functools.partial(startup.TorchStartup, threads=context.threads)
    cache = "compiled before" if warm else "nothing compiled before"
    return Comparison(
        name,
        _startup_title(network, cache),
        _jaxnets_startup(context, network, warm=warm),
        with_both_allocators({f"{PYTORCH}, channels_last": theirs}),
        unit="starts",
        implementation=context.implementation,
    )


def first_start_row(name: str, context: BenchContext, *, network: str) -> Comparison:
    """The first start on a machine, which also builds the C++ kernels, compared with PyTorch."""
    row = startup_row(name, context, network=network, warm=False)
    return dataclasses.replace(
        row,
        title=_startup_title(network, "the C++ kernels not built before"),
        ours=_jaxnets_startup(context, network, warm=False, builds_kernels=True),
        implementation=WITH_KERNELS,
        warmup=0,  # each start takes a minute
    )


def learning_rate_row(name: str, context: BenchContext, *, network: str) -> Comparison:
    """A start with another learning rate than those compiled before, compared with the same one again."""
    same_rate = Baseline(_jaxnets_startup(context, network, warm=True), keep_memory=True)
    return Comparison(
        name,
        _startup_title(network, "compiled before with another learning rate"),
        _jaxnets_startup(context, network, warm=True, new_learning_rates=True),
        {"the same learning rate": same_rate},
        needs_torch=False,
        unit="starts",
        implementation=context.implementation,
    )


def _startup_title(network: str, cache: str) -> str:
    image_size, _ = TRAINING_SIZES[network][0]
    return f"start to first step, {models.entry(network).title}, {image_size} px, {cache}"


def _jaxnets_startup(
    context: BenchContext, network: str, **options: bool
) -> functools.partial[startup.JaxnetsStartup]:
    image_size, batch_size = TRAINING_SIZES[network][0]
    shape = {"network": network, "image_size": image_size, "batch_size": batch_size}
    return functools.partial(startup.JaxnetsStartup, kernels=context.kernels, **shape, **options)


def end_to_end_row(name: str, context: BenchContext) -> Comparison:
    """Report C's run of LeNet-5 on MNIST, from process start to final test, compared with its script."""
    assert context.data_root is not None, "the row needs MNIST"
    ours = functools.partial(
        end_to_end.JaxnetsRun, epochs=10, data_root=context.data_root, kernels=context.kernels
    )
    theirs = functools.partial(end_to_end.TorchRun, threads=context.threads)
    title = "LeNet-5 on MNIST, 10 epochs from start to final test, against report C's script"
    return Comparison(
        name,
        title,
        ours,
        with_both_allocators({f"{PYTORCH}, the report's script": theirs}),
        implementation=context.implementation,
        warmup=0,  # a round takes minutes and starts a new process, so there is nothing to warm up
    )


def mlp_row(name: str, context: BenchContext) -> Comparison:
    """Scanned training steps of report A's MLP, compared with eager PyTorch."""
    theirs = {
        label: functools.partial(torch_workloads.MlpWorkload, fused=fused, threads=context.threads)
        for label, fused in ((PYTORCH, False), (f"{PYTORCH}, fused SGD", True))
    }
    title = "training step, report A's MLP, its 4 points, 1,000 steps a call, against steps one by one"
    found = with_both_allocators(theirs)
    return Comparison(name, title, mlp_workloads.ScannedMlpWorkload, found, unit="points")


def scalar_row(name: str, context: BenchContext) -> Comparison:
    """The same training steps, compared with the scalar autograd engine."""
    del context
    found = {"the scalar engine": Baseline(mlp_workloads.ScalarEngineWorkload, keep_memory=True)}
    title = "training step, report A's MLP, against our scalar engine"
    return Comparison(name, title, mlp_workloads.ScannedMlpWorkload, found, needs_torch=False, unit="points")


def pipeline_row(name: str, context: BenchContext, *, cache: bool) -> Comparison:
    """Input pipeline, compared with a DataLoader on the same files with and without worker processes."""
    theirs = {
        f"DataLoader, {workers} workers": functools.partial(
            torch_workloads.DataLoaderWorkload, workers=workers, threads=context.threads
        )
        for workers in (0, context.threads)
    }
    what = "cache against a DataLoader on the same memory map, by batches" if cache else JPEG_TITLE
    ours, found = _jaxnets_pipeline(context, cache=cache), with_both_allocators(theirs)
    return Comparison(name, f"pipeline: {what}", ours, found, dtype=None)


def cache_row(name: str, context: BenchContext) -> Comparison:
    """Input pipeline from the cache, compared with the one from JPEGs."""
    ours, theirs = (_jaxnets_pipeline(context, cache=cache) for cache in (True, False))
    title = "pipeline: our cache against our own JPEG (the gain of decoding once)"
    found = {"our own JPEG pipeline": Baseline(theirs, keep_memory=True)}
    return Comparison(name, title, ours, found, needs_torch=False, dtype=None)


def _jaxnets_pipeline(
    context: BenchContext, *, cache: bool
) -> functools.partial[jax_workloads.PipelineWorkload]:
    assert context.images is not None, "a pipeline row needs images"
    return functools.partial(
        jax_workloads.PipelineWorkload,
        images=context.images,
        image_size=IMAGE_SIZE,
        batch_size=PIPELINE_BATCH,
        cache=cache,
    )


def _network_rows() -> dict[str, MakeComparison]:
    """Training step and inference of the networks, then the rows in bfloat16."""
    shapes = [
        (kind, network, image_size, batch_size, False)
        for kind, sizes in ((TRAIN, TRAINING_SIZES), (INFERENCE, INFERENCE_SIZES))
        for network, found in sizes.items()
        for image_size, batch_size in found
    ]
    shapes += [(*row, 16, True) for row in BFLOAT16_ROWS]
    return {
        f"{kind}/{network}/{image_size}/{batch_size}{f'/{BFLOAT16}' * bfloat16}": functools.partial(
            network_row,
            network=network,
            image_size=image_size,
            batch_size=batch_size,
            trains=kind == TRAIN,
            bfloat16=bfloat16,
        )
        for kind, network, image_size, batch_size, bfloat16 in shapes
    }


SUITES: Mapping[str, Mapping[str, MakeComparison]] = {
    CPU: {
        **_network_rows(),
        "train/mlp_tanh/4": mlp_row,
        "train/mlp_tanh/4/scalar_engine": scalar_row,
        "end_to_end/lenet5": end_to_end_row,
    },
    PIPELINE: {
        "pipeline/jpeg_vs_jpeg": functools.partial(pipeline_row, cache=False),
        "pipeline/cache_vs_memmap": functools.partial(pipeline_row, cache=True),
        "pipeline/cache_vs_jpeg": cache_row,
    },
    STARTUP: {
        **{
            f"startup/{network}/{'warm' if warm else 'cold'}": functools.partial(
                startup_row, network=network, warm=warm
            )
            for network in ("lenet5", "resnet50")
            for warm in (False, True)
        },
        "startup/resnet50/first": functools.partial(first_start_row, network="resnet50"),
        "startup/resnet50/learning_rate": functools.partial(learning_rate_row, network="resnet50"),
    },
}
"""The comparisons by suite and row name."""


@contextlib.contextmanager
def pipeline_images(images: Path | None) -> Iterator[Path]:
    """Yields a temporary folder with a link to `images`, or with synthetic JPEGs if that is None."""
    with tempfile.TemporaryDirectory(prefix="jaxnets-bench-") as scratch:
        folder = Path(scratch) / "images"
        if images is not None:
            # With a link, the cache next to the folder is removed too.
            folder.symlink_to(images.resolve(), target_is_directory=True)
        else:
            with console.phase("images") as phase, console.counter("images") as progress:
                write_jpegs(folder, IMAGES, IMAGE_SIZE, progress)
                phase.text = f"{IMAGES:,} synthetic JPEGs of {IMAGE_SIZE} px"
        yield folder


def write_jpegs(
    folder: Path, count: int, size: int, progress: Callable[[int, int | None], None] | None = None
) -> None:
    """Writes `count` synthetic images of `size` px as JPEGs, in one folder per class."""
    source = SyntheticTissue(count, size)
    for name in source.classes:
        (folder / name).mkdir(parents=True)
    for index in range(count):
        example = source[index]
        path = folder / source.classes[int(example["label"])] / f"{index:06d}.jpg"
        Image.fromarray(example["image"]).save(path, quality=JPEG_QUALITY)
        if progress is not None:
            progress(index + 1, count)
