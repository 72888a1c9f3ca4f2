"""The comparisons of the cpu, pipeline and startup suites."""

import contextlib
import dataclasses
import functools
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from PIL import Image

from benchmarks import end_to_end, jax_workloads, mlp_workloads, startup, torch_workloads
from benchmarks.measure import LOSS_TOLERANCE, WITH_KERNELS, Comparison
from jaxnets import models
from jaxnets.data.sources.synthetic_tissue import SyntheticTissue
from jaxnets.runtime import console
from studies.pages.bench_table import IN_JAX_ALONE

CPU, PIPELINE, STARTUP = "cpu", "pipeline", "startup"
IMAGES, IMAGE_SIZE, JPEG_QUALITY = 1500, 224, 75
PIPELINE_BATCH = 32
JPEG_TITLE = f"JPEG against a DataLoader on JPEG, {IMAGE_SIZE} px"
SIZES: Mapping[str, Sequence[tuple[int, int]]] = {
    "lenet5": ((28, 64),),
    "alexnet": ((32, 64),),
    "resnet50": ((64, 16), (128, 16), (224, 16)),
}
"""(image size, batch size) by network; `DEFAULT_SIZES` for others."""
DEFAULT_SIZES = ((128, 16),)
LAYOUTS = ("contiguous", "channels_last")
"""PyTorch's memory layouts."""


@dataclasses.dataclass(frozen=True)
class BenchContext:
    """Inputs of the comparisons.

    Attributes:
      threads: CPU threads of a baseline.
      images: Folder of JPEGs (pipeline suite).
      data_root: Folder of MNIST (end-to-end row).
      kernels: Library of C++ kernels, for workloads that start processes themselves.
    """

    threads: int
    images: Path | None = None
    data_root: Path | None = None
    kernels: Path | None = None

    @property
    def implementation(self) -> str:
        """Name of the implementation that these workloads use."""
        return WITH_KERNELS if self.kernels else IN_JAX_ALONE


MakeComparison = Callable[[str, BenchContext], Comparison]


def network_row(
    name: str, context: BenchContext, *, network: str, image_size: int, batch_size: int, trains: bool
) -> Comparison:
    """Training step or inference of a network, compared with PyTorch in both memory layouts."""
    shape = {"network": network, "image_size": image_size, "batch_size": batch_size}
    ours = jax_workloads.TrainingWorkload if trains else jax_workloads.InferenceWorkload
    workload = torch_workloads.TrainingWorkload if trains else torch_workloads.InferenceWorkload
    baselines = {
        layout: functools.partial(workload, channels_last=layout == "channels_last", threads=context.threads)
        for layout in LAYOUTS
    }
    what = "training step" if trains else "inference"
    title = f"{what}, {models.entry(network).title}, {image_size} px, batch {batch_size}"
    return Comparison(
        name,
        title,
        functools.partial(ours, **shape),
        baselines,
        has_kernels=True,
        loss_tolerance=LOSS_TOLERANCE if trains else None,
    )


def startup_row(name: str, context: BenchContext, *, network: str, warm: bool) -> Comparison:
    """Time from process start to the end of the first training step, compared with PyTorch."""
    image_size, batch_size = SIZES[network][0]
    shape = {"network": network, "image_size": image_size, "batch_size": batch_size}
    baseline = functools.partial(startup.TorchStartup, threads=context.threads)
    cache = "compiled before" if warm else "nothing compiled before"
    title = f"start to first step, {models.entry(network).title}, {image_size} px, {cache}"
    ours = functools.partial(startup.JaxnetsStartup, **shape, warm=warm, kernels=context.kernels)
    return Comparison(
        name, title, ours, {"channels_last": baseline}, unit="starts", implementation=context.implementation
    )


def end_to_end_row(name: str, context: BenchContext) -> Comparison:
    """Report C's run of LeNet-5 on MNIST, from process start to final test, compared with its script."""
    assert context.data_root is not None, "the row needs MNIST"
    ours = functools.partial(
        end_to_end.JaxnetsRun, epochs=10, data_root=context.data_root, kernels=context.kernels
    )
    baseline = functools.partial(end_to_end.TorchRun, threads=context.threads)
    title = "LeNet-5 on MNIST, 10 epochs from start to final test, against report C's script"
    # A round takes minutes and starts a new process, so there is nothing to warm up.
    return Comparison(
        name, title, ours, {"the report's script": baseline}, implementation=context.implementation, warmup=0
    )


def mlp_row(name: str, context: BenchContext) -> Comparison:
    """Scanned training steps of report A's MLP, compared with eager PyTorch."""
    baselines = {
        label: functools.partial(torch_workloads.MlpWorkload, fused=fused, threads=context.threads)
        for label, fused in (("eager", False), ("eager, fused SGD", True))
    }
    title = "training step, report A's MLP, its 4 points, 1,000 steps a call, against steps one by one"
    return Comparison(name, title, mlp_workloads.ScannedMlpWorkload, baselines, unit="points")


def scalar_row(name: str, context: BenchContext) -> Comparison:
    """The same training steps, compared with the scalar autograd engine."""
    del context
    baselines = {"the scalar engine": mlp_workloads.ScalarEngineWorkload}
    title = "training step, report A's MLP, against our scalar engine"
    return Comparison(
        name, title, mlp_workloads.ScannedMlpWorkload, baselines, needs_torch=False, unit="points"
    )


def pipeline_row(name: str, context: BenchContext, *, cache: bool) -> Comparison:
    """Input pipeline, compared with a DataLoader on the same files with and without worker processes."""
    baselines = {
        f"{workers} workers": functools.partial(
            torch_workloads.DataLoaderWorkload, workers=workers, threads=context.threads
        )
        for workers in (0, context.threads)
    }
    what = "cache against a DataLoader on the same memory map, by batches" if cache else JPEG_TITLE
    return Comparison(name, f"pipeline: {what}", _jaxnets_pipeline(context, cache=cache), baselines)


def cache_row(name: str, context: BenchContext) -> Comparison:
    """Input pipeline from the cache, compared with the one from JPEGs."""
    ours, baseline = (_jaxnets_pipeline(context, cache=cache) for cache in (True, False))
    title = "pipeline: our cache against our own JPEG (the gain of decoding once)"
    return Comparison(name, title, ours, {"our own JPEG pipeline": baseline}, needs_torch=False)


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
    """Training step and inference of every image network in the registry."""
    rows: dict[str, MakeComparison] = {}
    for kind in ("train", "inference"):
        for network, entry in models.REGISTRY.items():
            if entry.kind != "image":
                continue
            for image_size, batch_size in SIZES.get(network, DEFAULT_SIZES):
                rows[f"{kind}/{network}/{image_size}/{batch_size}"] = functools.partial(
                    network_row,
                    network=network,
                    image_size=image_size,
                    batch_size=batch_size,
                    trains=kind == "train",
                )
    return rows


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
        f"startup/{network}/{'warm' if warm else 'cold'}": functools.partial(
            startup_row, network=network, warm=warm
        )
        for network in ("lenet5", "resnet50")
        for warm in (False, True)
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
