"""Evaluates a finished run on its test images with shifted colours."""

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets.data.splits import leaked_fractions
from jaxnets.errors import ConfigError
from jaxnets.experiment.data import open_dataset, with_cache
from jaxnets.experiment.evaluator import make_evaluator
from jaxnets.experiment.leakage import format_split
from jaxnets.experiment.restore import restore_state
from jaxnets.experiment.run_directory import RunDirectory, open_run, read_result
from jaxnets.io import atomic_write
from jaxnets.runtime import console
from jaxnets.runtime.xla import precision_of
from jaxnets.training.devices import Devices
from studies import stain_jitter as shifts
from studies.pages.stain_page import NUMBERS

FOLDER, PICTURE = "report", "stain_shift.png"


def stain_shift(
    directory: Path, *, data_root: str | None = None, stored: Path | None = None, ignore_damage: bool = False
) -> dict[str, Any]:
    """Evaluates a run under every shift of `SHIFTS`; writes report/stain_shift.json and .png.

    The JSON file is also written to `stored`, the folder of the run's result under results/.

    Raises:
      ConfigError: If the images are not in colour, matplotlib is missing or `stored` is of another run.
      DataError: If the data have changed.
      CheckpointError: If no checkpoint is valid or the directory is damaged; with `ignore_damage` a wrong
        checksum is a warning.
    """
    run = open_run(directory, data_root=data_root, ignore_damage=ignore_damage)
    console.warn(*run.warnings)
    if stored is not None:
        _check_stored_result(run, stored)
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("the picture needs matplotlib: pip install -e '.[plots]'")
    with precision_of(run.config.model):
        return _stain_shift(run, stored)


def _stain_shift(run: RunDirectory, stored: Path | None) -> dict[str, Any]:
    config = run.config
    data = with_cache(config, open_dataset(config))
    if data.source.kind != "image" or data.shape[-1] != 3:
        raise ConfigError(f"the examples of {data.source.name} are not in colour")
    run.check_data(data.source.fingerprint)
    run.check_split(data.split.to_csv(data.source))
    devices = Devices.all()
    restored = restore_state(run, data.shape)
    model, state, step = restored.model, restored.state, restored.step
    console.warn(*restored.warnings)
    clean = make_evaluator(config, model, data, devices).entry(state, data.split.test)
    leak = leaked_fractions(data.split, data.group_ids)
    message = format_split(config, data, leak)
    console.log("split", message)
    console.log("clean", _format(clean))
    shifted = make_evaluator(config, model, data, devices, preprocess=shifts.make_shifted_preprocess(config))
    measured: dict[str, Any] = {"step": step, "split": data.split.name}
    measured |= {"leakage": leak, "split_description": message, "clean": clean}
    measured["shifts"] = {kind: [] for kind in shifts.SHIFTS}
    for number, (kind, strengths) in enumerate(shifts.SHIFTS.items()):
        for strength in strengths:
            fields = {shifts.KIND: np.int32(number), shifts.STRENGTH: np.float32(strength)}
            entry = shifted.entry(state, data.split.test, fields)
            measured["shifts"][kind].append({"strength": strength, **entry})
            console.log(kind, f"{strength:+.2f}  {_format(entry)}")
    folder = run.path / FOLDER
    folder.mkdir(exist_ok=True)
    atomic_write(folder / PICTURE, shifts.draw(measured))
    for target in (folder, stored) if stored is not None else (folder,):
        atomic_write(target / NUMBERS, json.dumps(measured, indent=1) + "\n")
        console.log("saved", str(target / NUMBERS))
    return measured


def _check_stored_result(run: RunDirectory, stored: Path) -> None:
    result = read_result(stored)
    if run.result is None or result is None or result["finished"] != run.result["finished"]:
        raise ConfigError(
            f"{stored} has no result of {run.path}: scripts/reproduce.py stores it when the row is complete"
        )


def _format(entry: Mapping[str, Any]) -> str:
    low, high = entry["interval"]
    return f"{100 * entry['accuracy']:5.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
