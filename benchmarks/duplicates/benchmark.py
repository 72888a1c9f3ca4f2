"""Builds the sets of images, runs every finder on every set, scores, and writes the results."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import suite
from benchmarks.duplicates import failures, image_sets, scoring
from benchmarks.duplicates.finders import FINDERS, OURS
from benchmarks.duplicates.image_sets import (
    CONTROLS,
    COPIES_TRUTH,
    HARDER_SET,
    HUMAN,
    LUNG,
    PUBLISHED_SET,
    SETS,
    ImageSet,
)
from benchmarks.duplicates.running import Run, run_finder
from benchmarks.duplicates.scoring import OUR_ROWS, Found
from jaxnets import config as config_lib
from jaxnets.errors import ConfigError, suggest
from jaxnets.io import atomic_write, require_folder
from jaxnets.runtime import console

DIGITS = 6
"""Significant digits of a stored number."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the command, as in `benchmarks.duplicates.__main__`."""

    images: Path
    human: Path
    workdir: Path
    finders: tuple[str, ...]
    per_class: int | None
    limit: float
    output: Path
    failures: Path


def run(options: Options) -> dict[str, Any]:
    """Runs the benchmark and writes its results.

    Raises:
      ConfigError: An unknown finder, a folder that does not exist, or no output for the tuning set.
      DataError: LC25000 or MNIST are incomplete.
    """
    for name in options.finders:
        if name not in FINDERS:
            raise ConfigError(
                f"--finders: no finder {name!r}{suggest(name, FINDERS)}; there are {', '.join(FINDERS)}"
            )
    for path in (options.output, options.failures):
        require_folder(path.parent)
    lung = image_sets.open_lung(options.images, options.human)
    data_root = config_lib.data_root(config_lib.default_config())
    size = "all" if options.per_class is None else f"{options.per_class}_per_class"
    folder = options.workdir / size
    sets = {
        name: image_sets.build(name, folder / "sets", lung, data_root, options.per_class) for name in SETS
    }
    runs = {
        finder: {
            name: run_finder(
                finder, sets[name], folder / "runs", options.workdir / "environments", options.limit
            )
            for name in SETS
        }
        for finder in options.finders
    }
    found = scoring.load(sets, runs, folder / "runs")
    photographs = {"used": len(sets[image_sets.PHOTOGRAPHS]), "all": int(lung.photographs.max()) + 1}
    content = {**suite.describe_machine(), "rows": [], "photographs": photographs}
    content |= _score(sets, runs, found)
    content["failures"] = _draw_failures(options.failures, sets, found)
    atomic_write(options.output, json.dumps(_rounded(content), indent=1) + "\n")
    console.log("saved", f"{options.output}, {options.failures}; python scripts/compare.py writes the page")
    return content


def _score(
    sets: Mapping[str, ImageSet],
    runs: Mapping[str, Mapping[str, Run]],
    found: Mapping[str, Mapping[str, Found]],
) -> dict[str, Any]:
    chosen = {
        row: scoring.thresholds(by_set[LUNG], sets[LUNG]) for row, by_set in found.items() if LUNG in by_set
    }
    complete = {row: by_set for row, by_set in found.items() if row in chosen}
    scores: dict[str, Any] = {}
    for row, by_set in complete.items():
        with console.phase("score") as phase:
            scores[row] = {
                name: scoring.score(each, sets[name], chosen[row]) for name, each in by_set.items()
            }
            scores[row][LUNG]["across_classes"] = {
                setting: scoring.across_classes(by_set[LUNG], sets[LUNG], threshold["pairs"])
                for setting, threshold in chosen[row].items()
            }
            phase.text = row
    measured_splits = [sets[name] for name in SETS if name not in CONTROLS]
    return {
        "sets": {name: _describe(each) for name, each in sets.items()},
        "finders": {name: dataclasses.asdict(FINDERS[name]) for name in runs},
        "runs": {
            row: {name: dataclasses.asdict(each) for name, each in by_set.items()}
            for row, by_set in runs.items()
        },
        "thresholds": chosen,
        "scores": scores,
        "splits": scoring.splits(complete, chosen, measured_splits),
    }


def _describe(image_set: ImageSet) -> dict[str, Any]:
    groups = {name: len(np.unique(truth)) for name, truth in image_set.truths.items()}
    return {"images": len(image_set), "groups": groups}


def _draw_failures(
    path: Path, sets: Mapping[str, ImageSet], found: Mapping[str, Mapping[str, Found]]
) -> dict[str, int]:
    """Draws the errors of our search, if it was run, and returns their numbers."""
    originals, groups = OUR_ROWS
    shown = (
        (HARDER_SET, COPIES_TRUTH, originals),
        (PUBLISHED_SET, COPIES_TRUTH, groups),
        (HARDER_SET, COPIES_TRUTH, groups),
        (LUNG, HUMAN, groups),
    )
    strips = []
    for name, truth, row in shown:
        if name in found.get(row, {}):
            labels = found[row][name].groups(None, len(sets[name]))
            what = f"{name}, {row.removeprefix(f'{OURS}_')}"
            for error, pairs in failures.errors(labels, sets[name].truths[truth]).items():
                strips.append((f"{what} {error}", sets[name], pairs))
    return failures.draw(path, strips) if strips else {}


def _rounded(value: Any) -> Any:
    """Rounds all floats to `DIGITS` significant digits; an infinite threshold, of no pairs, is None."""
    if isinstance(value, Mapping):
        return {str(key): _rounded(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(each) for each in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None
    return value
