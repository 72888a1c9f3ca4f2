"""Cross-validation: trains every fold, pools their predictions into one report, trains a final network."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets.data.dataset import Dataset
from jaxnets.data.splits import Split
from jaxnets.errors import CheckpointError, ConfigError
from jaxnets.evaluation import result as results
from jaxnets.evaluation.cross_validation import FoldRun, pool
from jaxnets.evaluation.predictions import predictions_name
from jaxnets.evaluation.summary import summary_text
from jaxnets.experiment import workdir
from jaxnets.experiment.data import open_dataset, split_source, with_cache
from jaxnets.experiment.report import report_paths, write_cross_validation_report
from jaxnets.experiment.resolve import load_config_or_demo
from jaxnets.experiment.run_directory import open_run, open_run_if_exists, read_result
from jaxnets.experiment.sweep import Row, Sweep, select_shard
from jaxnets.io import command
from jaxnets.runtime import console

EVERYTHING = (1.0, 0.0, 0.0)
"""The fractions of the final network's split: all examples are training examples."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of a cross-validation; `train_flags` are more flags of scripts/train.py."""

    workdir: str | None = None
    folds: int = 5
    seeds: int = 1
    final: bool = False
    shard: str | None = None
    train_flags: Sequence[str] = ()
    ignore_damage: bool = False
    command: str = ""


def cross_validate(spec: str, overrides: Mapping[str, Any], options: Options) -> results.Result | None:
    """Trains a network for each fold and seed, and reports on their predictions of all images.

    The same command resumes. Every run has its own directory in the workdir. Once all have finished, it also
    gets the pooled result.json, predictions/test.npz and report/. With `final` a network is trained on all
    images; its result.json has the accuracy and the temperature of the cross-validation.

    Args:
        spec: the config, PATH or PATH:VARIANT.
        overrides: config fields by path.
        options: see `Options`.

    Returns:
        The pooled result; None if runs of other shards have not finished.

    Raises:
        ConfigError: the config is wrong or its split has no folds.
        DataError: the data are missing or cannot be divided into folds.
        CheckFailedError: a run failed.
        InterruptedRunError: a signal stopped a run, which has been saved.
    """
    rows = make_rows(spec, overrides, options)
    mine = select_shard(rows, options.shard)
    folds, final = [row for row in rows if row.config.data.folds], rows[-1] if options.final else None
    directory = _directory(options, folds[0])
    data, splits = _split_into_folds(folds)
    for row in rows:
        existing = open_run_if_exists(directory / row.name, ignore_damage=options.ignore_damage)
        if existing is None:
            continue
        existing.check_config(row.config)
        existing.check_data(data.source.fingerprint)
        if row.config.data.folds:
            existing.check_split(dataclasses.replace(data, split=splits[row.config.data.fold]).split_csv)
    sweep = Sweep(directory, train_flags=options.train_flags, ignore_damage=options.ignore_damage)
    sweep.run(mine)
    found = {row.name: sweep.result(row) for row in rows}
    if unfinished := [name for name, result in found.items() if result is None]:
        console.log(
            "remaining", f"{', '.join(unfinished)}; the command that finishes last writes {directory}/report"
        )
        return None
    runs = [_fold_run(directory, row, found[row.name], options) for row in folds]
    pooled = _report(directory, folds[0], data, runs, options)
    if final is not None:
        _describe_final(directory / final.name, found[final.name], pooled)
    next_command = f"open {report_paths(directory, 'test')[0]}"
    if final is not None:
        next_command = f"{command('predict')} --workdir {directory / final.name} IMAGE_OR_FOLDER"
    console.log_text(summary_text(pooled, workdir=directory, next_command=next_command))
    return pooled


def make_rows(spec: str, overrides: Mapping[str, Any], options: Options) -> list[Row]:
    """The rows of the sweep: each fold with each seed, all folds of a seed together, then the final network.

    Seeds follow that of the config. The split does not depend on them.
    """
    for path in ("data.folds", "data.fold"):
        if path in overrides:
            raise ConfigError(f"--config.{path} is set by --folds, for each run: leave it out")
    in_folds = {**overrides, "data.folds": options.folds}
    first = load_config_or_demo(spec, in_folds).seed  # prints once if it falls back to the demo
    with console.silenced():
        rows = [
            _row(f"fold{fold}-s{seed}", spec, {**in_folds, "data.fold": fold, "seed": seed})
            for seed, fold in itertools.product(range(first, first + options.seeds), range(options.folds))
        ]
        if options.final:
            try:
                everything = {**overrides, "data.fractions": EVERYTHING, "seed": first}
                rows.append(_row(f"final-s{first}", spec, everything))
            except ConfigError as error:
                raise ConfigError(f"--final trains on all images, without validation: {error}") from error
    return rows


def _row(name: str, spec: str, overrides: Mapping[str, Any]) -> Row:
    return Row(name, spec, overrides, load_config_or_demo(spec, overrides))


def _directory(options: Options, row: Row) -> Path:
    """By default runs/CONFIG-VARIANT-5folds."""
    name = f"{row.config.name.replace(':', '-')}-{options.folds}folds"
    return Path(options.workdir or Path("runs") / name)


def _split_into_folds(rows: Sequence[Row]) -> tuple[Dataset, dict[int, Split]]:
    """The data of the first fold, and the split of each; raises their errors before the first is trained."""
    data = open_dataset(rows[0].config)
    if data.source.kind != "image":
        raise ConfigError(f"{data.source.name} has no classes: cross-validation measures accuracy")
    configs = {row.config.data.fold: row.config for row in rows}  # the split does not depend on the seed
    splits = {fold: split_source(config, data.source)[0] for fold, config in configs.items()}
    sizes = [len(split.test) for split in splits.values()]
    groups = data.split.groups
    grouped = f"{len(np.unique(groups)):,} groups, none of them divided" if groups is not None else ""
    described = grouped if data.split.name == "grouped" else "images divided at random, by class"
    least, most = min(sizes), max(sizes)
    images = f"{least:,} images" if least == most else f"{least:,} to {most:,} images"
    console.log("folds", f"{len(sizes)} folds of {images}; {described}")
    return data, splits


def _fold_run(directory: Path, row: Row, result: results.Result | None, options: Options) -> FoldRun:
    assert result is not None
    run = open_run(directory / row.name, ignore_damage=options.ignore_damage)
    predictions = run.predictions()
    if predictions is None:
        raise CheckpointError(
            f"{run.path / predictions_name()} is missing: "
            f"{command('evaluate')} --workdir={run.path} writes it"
        )
    return FoldRun(row.name, result, predictions)


def _report(
    directory: Path, row: Row, data: Dataset, runs: Sequence[FoldRun], options: Options
) -> results.Result:
    """The pooled result, written with predictions and report unless that has been done for these runs."""
    pooled, predictions = pool(runs, images=len(data.source), command=options.command)
    stored = read_result(directory, ignore_damage=options.ignore_damage)
    path = report_paths(directory, "test")[0]
    if stored is not None and stored.get("cross_validation") == pooled["cross_validation"] and path.is_file():
        return stored
    with console.phase("report") as phase:
        cached = with_cache(row.config, data)
        phase.text = str(write_cross_validation_report(directory, row.config, cached, pooled, predictions))
    contents = {predictions_name(): predictions.to_bytes(), results.RESULT: results.to_json(pooled)}
    workdir.write_files(directory, contents)
    return pooled


def _describe_final(folder: Path, result: results.Result | None, pooled: results.Result) -> None:
    """Adds the accuracy and the temperature of the cross-validation to the final network's result.json."""
    assert result is not None
    if result.get("cross_validation") == pooled["cross_validation"]:
        return
    described: results.Result = {
        **result,
        **results.summary_of(pooled["tests"]),
        "tests": pooled["tests"],
        "cross_validation": pooled["cross_validation"],
        "leakage": pooled["leakage"],
        "temperature": pooled["temperature"],
    }
    workdir.write_files(folder, {results.RESULT: results.to_json(described)})
