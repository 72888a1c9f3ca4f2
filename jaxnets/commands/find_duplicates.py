"""Find near-duplicates in folders of images: copies of a photograph, and overlapping photographs."""

import contextlib
import json
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets.data.images import MAX_PIXELS
from jaxnets.data.near_duplicates.features import Settings, opencv
from jaxnets.data.near_duplicates.search import TaskRunner, search
from jaxnets.data.near_duplicates.summary import Summary
from jaxnets.data.sources.image_folder import list_images
from jaxnets.errors import CheckFailedError, ConfigError
from jaxnets.evaluation.report import duplicates as page
from jaxnets.evaluation.report.html import percent
from jaxnets.experiment import duplicates
from jaxnets.io import atomic_write, command
from jaxnets.runtime import console

PAGE = "duplicates.html"
OUTPUTS = "outputs.json"
"""File in the folder of a search that lists the files that it wrote."""


def find_duplicates(
    arguments: Sequence[str],
    *,
    out: str,
    against: Sequence[str] = (),
    html: str | None = None,
    json_path: str | None = None,
    fail_on_leak: bool = False,
    work_dir: str | None = None,
    workers: int | None = None,
    max_pixels: int = MAX_PIXELS,
    settings: Settings | None = None,
) -> None:
    """Writes `out` (file,original,group), a page, and a JSON file of statistics; "-" is standard output.

    A search that was killed resumes from the finished tasks in `work_dir`. Raises ConfigError for wrong
    arguments or if OpenCV is missing, DataError for unreadable images, MachineError if `work_dir` is locked
    or read-only, CheckFailedError with `fail_on_leak` if a test image has a near-duplicate in training.
    """
    if not arguments:
        raise ConfigError(f"give folders of images: {command('find_duplicates')} DIR [DIR ...]")
    if fail_on_leak and not against:
        raise ConfigError("--fail_on_leak needs the folder of test images: --against=TEST")
    settings, target = settings or Settings(), Path(out)
    if target.suffix != ".csv":
        raise ConfigError(f"--out={out} must end in .csv")
    outputs = {"--out": target, "--html": Path(html) if html else target.with_name(PAGE)}
    if json_path and json_path != "-":
        outputs["--json"] = Path(json_path)
    _check_outputs(outputs, [*map(Path, arguments), *map(Path, against)])
    opencv()
    with console.silenced() if json_path == "-" else contextlib.nullcontext():
        start = time.thread_time()
        listing = list_images([*map(Path, arguments), *map(Path, against)], max_pixels=max_pixels)
        duplicates.log_listing(listing)
        folder = Path(work_dir) if work_dir else target.with_name(f".{target.stem}.work")
        flag = "--workdir" if work_dir else "--out"
        with duplicates.task_runner(listing.images, folder, workers, settings, flag=flag) as runner:
            record = runner.folder / OUTPUTS
            ours = json.loads(record.read_text()) if record.exists() else []
            for flag, path in outputs.items():
                if path.exists() and str(path.resolve()) not in ours:
                    raise ConfigError(f"{path} exists: give another {flag}, or remove it")
            is_test = duplicates.is_below(listing.images, [Path(path) for path in against])
            found = search(listing.images, settings, runner, is_test)
            summary = Summary(listing.images, found, settings)
            numbers = {**summary.numbers(), "run": _describe_run(runner, time.thread_time() - start)}
            title = f"Near-duplicates in {', '.join((*arguments, *against))}"
            written = {*ours, *(str(path.resolve()) for path in outputs.values())}
            atomic_write(record, json.dumps(sorted(written)))
            _write(outputs, summary, numbers, title)
    if json_path == "-":
        print(json.dumps(numbers, indent=1), flush=True)
    if fail_on_leak and len(found.leaked):
        leakage = numbers["leakage"]
        file, other = next(iter(leakage["test_files"].items()))
        raise CheckFailedError(
            f"{len(found.leaked):,} of {leakage['test_images']:,} test images have a near-duplicate in "
            f"training ({file} is like {other}): remove them; {outputs['--html']} shows them"
        )


def _check_outputs(outputs: Mapping[str, Path], folders: Sequence[Path]) -> None:
    """Raises ConfigError if an output is inside a folder of images, or has the path of another output."""
    flag_of: dict[Path, str] = {}
    for flag, path in outputs.items():
        for folder in folders:
            if path.resolve().is_relative_to(folder.resolve()):
                raise ConfigError(
                    f"{flag}={path} is inside {folder}: give a path outside of the images' folder"
                )
        if (other := flag_of.setdefault(path.resolve(), flag)) != flag:
            raise ConfigError(f"{other} and {flag} are both {path}: give each its own file")


def _describe_run(runner: TaskRunner, processor_seconds: float) -> dict[str, Any]:
    return {
        "seconds": runner.seconds,
        "total_seconds": round(sum(runner.seconds.values()), 1),
        "processor_seconds": round(runner.processor_seconds + processor_seconds, 1),
        "tasks_reused": runner.reused,
        "versions": {"opencv": opencv().__version__, "numpy": np.__version__},
        "python": platform.python_version(),
    }


def _write(outputs: Mapping[str, Path], summary: Summary, numbers: dict[str, Any], title: str) -> None:
    with console.phase("page"):
        contents = {
            "--html": page.render(summary, numbers, title),
            "--json": json.dumps(numbers, indent=1) + "\n",
        }
    for flag, path in outputs.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if flag in contents:
            atomic_write(path, contents[flag])
    summary.found.to_groups(str(outputs["--out"])).write(outputs["--out"])
    _log(numbers)
    console.log("saved", ", ".join(map(str, outputs.values())))


def _log(numbers: dict[str, Any]) -> None:
    confidence, overlaps, leakage = numbers["confidence"], numbers["overlaps"], numbers["leakage"]
    console.log(
        "found",
        f"{numbers['originals']:,} originals in {numbers['groups']:,} groups of overlapping images; "
        f"{numbers['images_without_near_duplicate']:,} images have no near-duplicate",
    )
    for name, counts in numbers["classes"].items():
        console.log("", f"{name}: {', '.join(f'{number:,} {what}' for what, number in counts.items())}")
    within = confidence["largest_centre_distance_within_an_original"]
    beyond = confidence["smallest_centre_distance_between_originals"]
    copies = "no copies" if within is None else f"centres of copies are at most {within} px apart"
    between = "no overlaps" if beyond is None else f"of overlaps at least {beyond} px"
    threshold = f"the threshold is {numbers['settings']['original_centre']:g} px"
    if within is not None or beyond is not None:
        console.log("margin", f"{copies}, {between}; {threshold}")
    console.log(
        "overlaps",
        f"{overlaps['joined']} joined ({overlaps['joined_across_classes']} across classes), "
        f"{overlaps['left_apart_with_evidence']} not joined for lack of evidence; "
        f"{overlaps['doubtful']} doubtful",
    )
    if doubtful := confidence["doubtful_copies"]:
        console.log("", f"pairs of copies that are doubtful, because they have few inliers: {doubtful:,}")
    if plain := confidence["images_with_too_few_keypoints"]:
        needed = numbers["settings"]["overlap_inliers"]
        console.log(
            "", f"images with fewer than {needed} keypoints: {plain:,}; only their exact copies are found"
        )
    if leakage["test_images"]:
        console.log(
            "leakage",
            f"{'LEAKY: ' if leakage['test_images_with_near_duplicate'] else ''}"
            f"{leakage['test_images_with_near_duplicate']:,} of {leakage['test_images']:,} test images "
            f"({percent(leakage['test_fraction'], 2)}) have a near-duplicate in training",
        )
    elif leakage["random_split_test_fraction"] is not None:
        fraction = percent(leakage["random_split_test_fraction"])
        console.log(
            "leakage",
            f"a random split would put near-duplicates of {fraction} of its test images into training",
        )
