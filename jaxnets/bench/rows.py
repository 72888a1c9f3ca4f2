"""The rows by name, and the images that the pipeline's rows read."""

import contextlib
import dataclasses
import functools
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from PIL import Image

from jaxnets.app.screen import Screen
from jaxnets.bench import our_sides, their_sides
from jaxnets.bench.measure import Row
from jaxnets.config import nearest
from jaxnets.data.synthetic_tissue import SyntheticTissue
from jaxnets.errors import ConfigError

TRAINING, PIPELINE = "training", "pipeline"
IMAGES, IMAGE_SIZE, JPEG_QUALITY = 1500, 224, 75
PIPELINE_BATCH = 32


@dataclasses.dataclass(frozen=True)
class Setting:
    """What rows take from the machine: threads a side, and a folder of JPEGs (pipeline rows alone)."""

    threads: int
    images: Path | None = None


MakeRow = Callable[[str, Setting], Row]


def training_row(
    name: str, setting: Setting, *, network: str, image_size: int, batch_size: int
) -> Row:
    """Our training step against PyTorch's, in both its memory layouts."""
    shape = {"network": network, "image_size": image_size, "batch_size": batch_size}
    theirs = {
        layout: functools.partial(
            their_sides.TrainingSide,
            channels_last=layout == "channels_last",
            threads=setting.threads,
        )
        for layout in ("contiguous", "channels_last")
    }
    return Row(name, functools.partial(our_sides.TrainingSide, **shape), theirs)


def pipeline_row(name: str, setting: Setting, *, cache: bool) -> Row:
    """Our batches against a DataLoader's over the same files, without and with worker processes."""
    theirs = {
        f"{workers} workers": functools.partial(
            their_sides.LoaderSide, workers=workers, threads=setting.threads
        )
        for workers in (0, setting.threads)
    }
    return Row(name, _our_pipeline(setting, cache=cache), theirs)


def own_pipelines_row(name: str, setting: Setting) -> Row:
    """Our batches from the cache against our own from JPEGs: the gain of decoding once."""
    ours, theirs = (_our_pipeline(setting, cache=cache) for cache in (True, False))
    return Row(name, ours, {"our own JPEG pipeline": theirs}, needs_torch=False)


def _our_pipeline(setting: Setting, *, cache: bool) -> functools.partial[our_sides.PipelineSide]:
    assert setting.images is not None, "a pipeline row needs images"
    return functools.partial(
        our_sides.PipelineSide,
        images=setting.images,
        image_size=IMAGE_SIZE,
        batch_size=PIPELINE_BATCH,
        cache=cache,
    )


def _training(network: str, image_size: int, batch_size: int) -> dict[str, MakeRow]:
    make = functools.partial(
        training_row, network=network, image_size=image_size, batch_size=batch_size
    )
    return {f"train/{network}/{image_size}/{batch_size}": make}


ROWS: Mapping[str, Mapping[str, MakeRow]] = {
    TRAINING: {
        **_training("lenet5", 28, 64),
        **_training("resnet50", 64, 16),
        **_training("resnet50", 224, 16),
    },
    PIPELINE: {
        "pipeline/jpeg_vs_jpeg": functools.partial(pipeline_row, cache=False),
        "pipeline/cache_vs_memmap": functools.partial(pipeline_row, cache=True),
        "pipeline/cache_vs_jpeg": own_pipelines_row,
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
            raise ConfigError(
                f"no row {name!r} in --suite={suite}{hint}; there are {', '.join(rows)}"
            )
    return {name: rows[name] for name in names or rows}


@contextlib.contextmanager
def setting(suite: str, images: Path | None, threads: int, screen: Screen) -> Iterator[Setting]:
    """What a suite's rows take; pipeline rows read `images`, or else drawn JPEGs, removed at the end."""
    if suite != PIPELINE:
        yield Setting(threads)
        return
    with tempfile.TemporaryDirectory(prefix="jaxnets-bench-") as scratch:
        folder = Path(scratch) / "images"
        if images is not None:
            # A link, so that the cache, beside the folder, goes with the scratch folder.
            folder.symlink_to(images.resolve(), target_is_directory=True)
        else:
            with screen.phase("images") as phase, screen.counter("images") as progress:
                draw_jpegs(folder, IMAGES, IMAGE_SIZE, progress)
                phase.text = f"{IMAGES:,} JPEGs of {IMAGE_SIZE} px drawn"
        yield Setting(threads, folder)


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
