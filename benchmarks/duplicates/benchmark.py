"""Builds the sets of images, runs every finder on every set, scores, and writes the results."""

import dataclasses
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
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
    TUNING,
    ImageSet,
)
from benchmarks.duplicates.running import Run, Runner
from benchmarks.duplicates.scoring import OUR_ROWS, Choices, Found, Outputs
from jaxnets import config as config_lib
from jaxnets.errors import ConfigError, suggest
from jaxnets.io import atomic_write, require_folder
from jaxnets.runtime import console
from studies.compare import DUPLICATES, write_page
from studies.pages import duplicates_page

DIGITS = 6
"""Significant digits of a stored number."""
NEARLY = 0.9
"""A finder that was stopped on a set is not run on sets of at least this share of as many images."""
PAGE, FAILURES = "duplicates_benchmark.md", "duplicates_failures.jpg"


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the command, as in `benchmarks.duplicates.__main__`."""

    images: Path
    human: Path
    workdir: Path
    finders: tuple[str, ...]
    photographs: int | None
    limit: float
    jobs: int
    results: Path
    docs: Path


def run(options: Options) -> dict[str, Any]:
    """Runs the benchmark, and writes its results and its page.

    Raises:
      ConfigError: An unknown finder, or a folder or the page that does not exist.
      DataError: LC25000 or MNIST are incomplete.
    """
    for name in options.finders:
        if name not in FINDERS:
            raise ConfigError(
                f"--finders: no finder {name!r}{suggest(name, FINDERS)}; there are {', '.join(FINDERS)}"
            )
    require_folder(options.results)
    if not (options.docs / PAGE).is_file():
        raise ConfigError(f"--docs={options.docs} has no {PAGE}: name the folder docs of the repository")
    lung = image_sets.open_lung(options.images, options.human)
    data_root = config_lib.data_root(config_lib.default_config())
    sets = {
        name: image_sets.build(name, options.workdir / "sets", lung, data_root, options.photographs)
        for name in (TUNING, *SETS)
    }
    runner = Runner(options.workdir / "runs", options.workdir / "environments", options.limit)
    outputs, chosen = _run_all(options.finders, sets, runner, options.jobs)
    content = {
        **suite.describe_machine(),
        "rows": [],
        "photographs": {
            "used": len(sets[image_sets.PHOTOGRAPHS]),
            "all": int(lung.photographs.max()) + 1,
            "seed": image_sets.SELECTION_SEED,
        },
        "sets": {name: _describe(each) for name, each in sets.items()},
        "finders": {name: dataclasses.asdict(FINDERS[name]) for name in options.finders},
        "runs": _as_json(outputs.runs),
        "thresholds": _as_json(chosen),
        "scores": _score(outputs, chosen, sets),
        "splits": scoring.splits(outputs, chosen, [sets[name] for name in SETS if name not in CONTROLS]),
        "failures": _draw_failures(options.docs / FAILURES, sets, outputs),
    }
    path = options.results / duplicates_page.RESULTS
    atomic_write(path, json.dumps(_rounded(content), indent=1) + "\n")
    write_page(options.docs / PAGE, duplicates_page.sections(options.results))
    duplicates_page.draw(options.docs / DUPLICATES, duplicates_page.drawn_data(options.results))
    console.log("saved", f"{path}, {options.docs / PAGE} and its pictures")
    return content


def _run_all(
    finders: tuple[str, ...], sets: Mapping[str, ImageSet], runner: Runner, jobs: int
) -> tuple[Outputs, dict[str, Choices]]:
    """Runs every setting on the tuning images, and the default and the chosen ones on all sets."""
    outputs = Outputs({name: {} for name in finders}, {})
    with ThreadPoolExecutor(jobs) as pool:
        chosen = pool.map(lambda name: _run_finder(name, sets, runner, outputs), finders)
        return outputs, {row: choices for by_row in chosen for row, choices in by_row.items()}


def _run_finder(
    name: str, sets: Mapping[str, ImageSet], runner: Runner, outputs: Outputs
) -> dict[str, Choices]:
    """Runs a finder, and adds its runs to `outputs`; returns the chosen settings of its rows."""
    finder, runs = FINDERS[name], outputs.runs[name]

    def find(setting: str, image_set: str) -> Run:
        by_set = runs.setdefault(setting, {})
        stopped = [
            len(sets[each]) for runs_of in runs.values() for each, run in runs_of.items() if run.stopped
        ]
        if image_set not in by_set and stopped and len(sets[image_set]) >= NEARLY * min(stopped):
            by_set[image_set] = Run("", failed=f"not run: it was stopped on {min(stopped):,} images")
        if image_set not in by_set:
            by_set[image_set] = runner.run(name, setting, sets[image_set])
            outputs.paths[name, setting, image_set] = runner.output(name, setting, sets[image_set])
        return by_set[image_set]

    if (failed := find(finder.setting, TUNING).failed) is None:
        for setting in finder.settings:
            find(setting, TUNING)
    else:  # it would fail on the larger sets too
        runs[finder.setting] |= {each: Run("", failed=failed) for each in SETS}
    chosen = {}
    for row in scoring.rows_of(name):
        found = {setting: outputs.read(row, setting, TUNING) for setting in runs}
        complete = {setting: each for setting, each in found.items() if isinstance(each, Found)}
        chosen[row] = scoring.choose(finder, complete, sets[TUNING])
        for choice in chosen[row].values():
            for setting in dict.fromkeys(each.setting for each in choice.values()):
                for image_set in SETS:
                    find(setting, image_set)
    return chosen


def _score(outputs: Outputs, chosen: Mapping[str, Choices], sets: Mapping[str, ImageSet]) -> dict[str, Any]:
    scores: dict[str, Any] = {}
    for row, choices in chosen.items():
        with console.phase("score") as phase:
            scores[row] = {name: scoring.score(row, outputs, sets[name], choices) for name in SETS}
            phase.text = row
    return scores


def _as_json(value: Any) -> Any:
    """Returns nested mappings of dataclasses as dictionaries."""
    if isinstance(value, Mapping):
        return {key: _as_json(each) for key, each in value.items()}
    return dataclasses.asdict(value)


def _describe(image_set: ImageSet) -> dict[str, Any]:
    groups = {name: len(np.unique(truth)) for name, truth in image_set.truths.items()}
    return {"images": len(image_set), "groups": groups}


def _draw_failures(path: Path, sets: Mapping[str, ImageSet], outputs: Outputs) -> dict[str, int]:
    """Draws the errors of our search, if it was run, and returns their numbers."""
    originals, groups = OUR_ROWS
    shown = (
        (HARDER_SET, COPIES_TRUTH, originals),
        (PUBLISHED_SET, COPIES_TRUTH, groups),
        (HARDER_SET, COPIES_TRUTH, groups),
        (LUNG, HUMAN, groups),
    )
    strips = []
    for name, truth, row in shown if OURS in outputs.runs else ():
        found = outputs.read(row, FINDERS[OURS].setting, name)
        if isinstance(found, Found):
            what = f"{name}, {row.removeprefix(f'{OURS}_')}"
            labels = found.groups(None, len(sets[name]))
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
