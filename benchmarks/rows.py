"""The rows by name, and the images that the pipeline's rows read."""

import contextlib
import dataclasses
import functools
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from PIL import Image

from benchmarks import first_step, jax_workloads, mlp_sides, torch_workloads, whole_runs
from benchmarks.measure import LOSS_TOLERANCE, WITH_KERNELS, Row
from jaxnets import models
from jaxnets.config import nearest
from jaxnets.data.sources.synthetic_tissue import SyntheticTissue
from jaxnets.errors import ConfigError
from jaxnets.runtime.console import Reporter
from studies.compare import IN_JAX_ALONE

CPU, PIPELINE, STARTUP = "cpu", "pipeline", "startup"
IMAGES, IMAGE_SIZE, JPEG_QUALITY = 1500, 224, 75
PIPELINE_BATCH = 32
JPEG_TITLE = f"JPEG against a DataLoader on JPEG, {IMAGE_SIZE} px"
SIZES: Mapping[str, Sequence[tuple[int, int]]] = {
    "lenet5": ((28, 64),),
    "alexnet": ((32, 64),),
    "resnet50": ((64, 16), (128, 16), (224, 16)),
}
"""(image size, batch size) of the CPU's rows, by network; others have `USUAL_SIZES`."""
USUAL_SIZES = ((128, 16),)
LAYOUTS = ("contiguous", "channels_last")
"""PyTorch's memory layouts."""


@dataclasses.dataclass(frozen=True)
class BenchContext:
    """What rows take from the machine: threads a side, JPEGs (pipeline rows), MNIST (whole runs).

    And the library of C++ kernels, for rows that start processes of their own.
    """

    threads: int
    images: Path | None = None
    data_root: Path | None = None
    kernels: Path | None = None

    @property
    def implementation(self) -> str:
        """How such a row computes."""
        return WITH_KERNELS if self.kernels else IN_JAX_ALONE


MakeRow = Callable[[str, BenchContext], Row]


def network_row(
    name: str,
    setting: BenchContext,
    *,
    network: str,
    image_size: int,
    batch_size: int,
    trains: bool,
) -> Row:
    """Our training step, or our network without training, against PyTorch's in both its memory layouts."""
    shape = {"network": network, "image_size": image_size, "batch_size": batch_size}
    ours = jax_workloads.TrainingSide if trains else jax_workloads.InferenceSide
    theirs = torch_workloads.TrainingSide if trains else torch_workloads.InferenceSide
    opponents = {
        layout: functools.partial(theirs, channels_last=layout == "channels_last", threads=setting.threads)
        for layout in LAYOUTS
    }
    what = "training step" if trains else "inference"
    title = f"{what}, {models.entry(network).title}, {image_size} px, batch {batch_size}"
    return Row(
        name,
        title,
        functools.partial(ours, **shape),
        opponents,
        has_kernels=True,
        loss_tolerance=LOSS_TOLERANCE if trains else None,
    )


def startup_row(name: str, setting: BenchContext, *, network: str, warm: bool) -> Row:
    """From the start of a process to the end of its first training step, against PyTorch's."""
    image_size, batch_size = SIZES[network][0]
    shape = {"network": network, "image_size": image_size, "batch_size": batch_size}
    theirs = functools.partial(first_step.TheirStart, threads=setting.threads)
    cache = "compiled before" if warm else "nothing compiled before"
    title = f"start to first step, {models.entry(network).title}, {image_size} px, {cache}"
    ours = functools.partial(first_step.OurStart, **shape, warm=warm, kernels=setting.kernels)
    return Row(
        name,
        title,
        ours,
        {"channels_last": theirs},
        unit="starts",
        implementation=setting.implementation,
    )


def whole_run_row(name: str, setting: BenchContext) -> Row:
    """Report C's ten epochs of LeNet-5 on MNIST, start of process to final test, against its own script."""
    assert setting.data_root is not None, "the row needs MNIST"
    ours = functools.partial(
        whole_runs.OurRun, epochs=10, data_root=setting.data_root, kernels=setting.kernels
    )
    theirs = functools.partial(whole_runs.TheirRun, threads=setting.threads)
    title = "LeNet-5 on MNIST, 10 epochs from start to final test, against report C's script"
    # Minutes a turn, and each starts a new process: there is nothing to warm up.
    return Row(
        name,
        title,
        ours,
        {"the report's script": theirs},
        implementation=setting.implementation,
        untimed=0,
    )


def mlp_row(name: str, setting: BenchContext) -> Row:
    """Our training step of report A's MLP, scanned, against PyTorch's, eager."""
    theirs = {
        words: functools.partial(torch_workloads.MlpSide, fused=fused, threads=setting.threads)
        for words, fused in (("eager", False), ("eager, fused SGD", True))
    }
    title = "training step, report A's MLP, its 4 points, 1,000 steps a call, against steps one by one"
    return Row(name, title, mlp_sides.ScannedSide, theirs, unit="points")


def scalar_row(name: str, setting: BenchContext) -> Row:
    """The same step against the scalar engine's."""
    del setting
    theirs = {"the scalar engine": mlp_sides.ScalarSide}
    title = "training step, report A's MLP, against our scalar engine"
    return Row(name, title, mlp_sides.ScannedSide, theirs, needs_torch=False, unit="points")


def pipeline_row(name: str, setting: BenchContext, *, cache: bool) -> Row:
    """Our batches against a DataLoader's over the same files, without and with worker processes."""
    theirs = {
        f"{workers} workers": functools.partial(
            torch_workloads.LoaderSide, workers=workers, threads=setting.threads
        )
        for workers in (0, setting.threads)
    }
    what = "cache against a DataLoader on the same memory map, by batches" if cache else JPEG_TITLE
    return Row(name, f"pipeline: {what}", _our_pipeline(setting, cache=cache), theirs)


def own_pipelines_row(name: str, setting: BenchContext) -> Row:
    """Our batches from the cache against our own from JPEGs: the gain of decoding once."""
    ours, theirs = (_our_pipeline(setting, cache=cache) for cache in (True, False))
    title = "pipeline: our cache against our own JPEG (the gain of decoding once)"
    return Row(name, title, ours, {"our own JPEG pipeline": theirs}, needs_torch=False)


def _our_pipeline(setting: BenchContext, *, cache: bool) -> functools.partial[jax_workloads.PipelineSide]:
    assert setting.images is not None, "a pipeline row needs images"
    return functools.partial(
        jax_workloads.PipelineSide,
        images=setting.images,
        image_size=IMAGE_SIZE,
        batch_size=PIPELINE_BATCH,
        cache=cache,
    )


def _network_rows() -> dict[str, MakeRow]:
    """Training step and inference of every network of the registry that takes images."""
    rows: dict[str, MakeRow] = {}
    for kind in ("train", "inference"):
        for network, entry in models.REGISTRY.items():
            if entry.kind != "image":
                continue
            for image_size, batch_size in SIZES.get(network, USUAL_SIZES):
                rows[f"{kind}/{network}/{image_size}/{batch_size}"] = functools.partial(
                    network_row,
                    network=network,
                    image_size=image_size,
                    batch_size=batch_size,
                    trains=kind == "train",
                )
    return rows


ROWS: Mapping[str, Mapping[str, MakeRow]] = {
    CPU: {
        **_network_rows(),
        "train/mlp_tanh/4": mlp_row,
        "train/mlp_tanh/4/scalar_engine": scalar_row,
        "end_to_end/lenet5": whole_run_row,
    },
    PIPELINE: {
        "pipeline/jpeg_vs_jpeg": functools.partial(pipeline_row, cache=False),
        "pipeline/cache_vs_memmap": functools.partial(pipeline_row, cache=True),
        "pipeline/cache_vs_jpeg": own_pipelines_row,
    },
    STARTUP: {
        f"startup/{network}/{'warm' if warm else 'cold'}": functools.partial(
            startup_row, network=network, warm=warm
        )
        for network in ("lenet5", "resnet50")
        for warm in (False, True)
    },
}
"""By suite and name."""


def choose(suite: str, names: Sequence[str]) -> dict[str, MakeRow]:
    """The rows of a suite, or those of them that are named.

    Raises ConfigError, naming the nearest, for a name that the suite does not have.
    """
    rows = ROWS[suite]
    for name in names:
        other = [other for other in ROWS if name in ROWS[other]]
        if name not in rows:
            hint = f" (it is one of --suite={other[0]})" if other else nearest(name, rows)
            raise ConfigError(f"no row {name!r} in --suite={suite}{hint}; there are {', '.join(rows)}")
    return {name: rows[name] for name in names or rows}


@contextlib.contextmanager
def setting(
    suite: str,
    images: Path | None,
    threads: int,
    reporter: Reporter,
    data_root: Path | None = None,
    kernels: Path | None = None,
) -> Iterator[BenchContext]:
    """What a suite's rows take; pipeline rows read `images`, or else drawn JPEGs, removed at the end."""
    if suite != PIPELINE:
        yield BenchContext(threads, data_root=data_root, kernels=kernels)
        return
    with tempfile.TemporaryDirectory(prefix="jaxnets-bench-") as scratch:
        folder = Path(scratch) / "images"
        if images is not None:
            # A link, so that the cache, beside the folder, goes with the scratch folder.
            folder.symlink_to(images.resolve(), target_is_directory=True)
        else:
            with reporter.phase("images") as phase, reporter.counter("images") as progress:
                draw_jpegs(folder, IMAGES, IMAGE_SIZE, progress)
                phase.text = f"{IMAGES:,} JPEGs of {IMAGE_SIZE} px drawn"
        yield BenchContext(threads, folder)


def draw_jpegs(
    folder: Path,
    count: int,
    size: int,
    progress: Callable[[int, int | None], None] | None = None,
) -> None:
    """Writes `count` pictures of `size` px as JPEGs of ordinary quality, a folder a class."""
    source = SyntheticTissue(count, size)
    for name in source.classes:
        (folder / name).mkdir(parents=True)
    for index in range(count):
        example = source[index]
        path = folder / source.classes[int(example["label"])] / f"{index:06d}.jpg"
        Image.fromarray(example["image"]).save(path, quality=JPEG_QUALITY)
        if progress is not None:
            progress(index + 1, count)
