"""Damaged run directories: each changed bit and value raises, warns or has no effect."""

import os
import shutil
from pathlib import Path
from typing import Any

import damage
import numpy as np
import pytest
from PIL import Image
from training_runs import SignalAfterStep

import jaxnets
from jaxnets.errors import InterruptedRunError

ONE_CHECKPOINT = {"checkpoint.keep": 1, "checkpoint.every_steps": 1}


@pytest.fixture(scope="module")
def finished(
    smoke_config: str, smoke_overrides: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A finished run with one checkpoint; tests must not change it."""
    run = tmp_path_factory.mktemp("finished") / "run"
    jaxnets.train(smoke_config, {**smoke_overrides, **ONE_CHECKPOINT}, workdir=run)
    return _with_one_checkpoint(run)


@pytest.fixture(scope="module")
def interrupted(
    smoke_config: str, smoke_overrides: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run that was stopped after three of four steps; tests must not change it."""
    run = tmp_path_factory.mktemp("interrupted") / "run"
    overrides = {**smoke_overrides, **ONE_CHECKPOINT, "log.every_steps": 1}
    with pytest.raises(InterruptedRunError):
        jaxnets.train(smoke_config, overrides, workdir=run, callbacks=[SignalAfterStep(3)])
    return _with_one_checkpoint(run)


def _with_one_checkpoint(run: Path) -> Path:
    """Removes the best checkpoint, which is not read."""
    *others, _ = sorted((run / "checkpoints").iterdir())
    for folder in others:
        shutil.rmtree(folder)
    return run


def _check(count: damage.Count) -> None:
    print(f"\n{count.table()}")
    assert not count.bad


def test_ignore_damage_still_raises_for_invalid_values(finished: Path) -> None:
    count = damage.try_all(finished, damage.mutations, every=17, ignore_damage=True)
    assert min(count.total["refused"], count.total["warned"]) > 50
    _check(count)


@pytest.mark.parametrize("kind", ["finished", "interrupted"])
def test_a_sample_of_all_changes(kind: str, request: pytest.FixtureRequest) -> None:
    run = request.getfixturevalue(kind)
    flips = damage.try_all(run, lambda path: damage.flips(path.read_bytes()), every=487)
    changes = damage.try_all(run, damage.mutations, every=29)
    for count in (flips, changes):
        assert count.total.total() > 100
        assert count.total["refused"] > 0.5 * count.total.total()
        _check(count)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["finished", "interrupted"])
def test_every_flipped_bit(kind: str, request: pytest.FixtureRequest) -> None:
    run = request.getfixturevalue(kind)
    _check(damage.try_all(run, lambda path: damage.flips(path.read_bytes())))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("ignore_damage", [False, True])
@pytest.mark.parametrize("kind", ["finished", "interrupted"])
def test_every_structural_change(kind: str, ignore_damage: bool, request: pytest.FixtureRequest) -> None:
    run = request.getfixturevalue(kind)
    _check(damage.try_all(run, damage.mutations, ignore_damage=ignore_damage))


def _commands(repository: Path, config: str, overrides: dict[str, Any], run: Path) -> dict:
    """The commands by name: script, arguments and output files."""
    image, out = run.parent / "image.png", run.parent / "out"
    Image.new("RGB", (20, 16), (200, 90, 120)).save(image)
    given = [f"--config.{name}={value}" for name, value in overrides.items()]
    at, here = f"--workdir={run}", ["--nokernels"]
    commands = {
        "train": ("train", [f"--config={config}", *given, at], [run / "result.json"]),
        "evaluate": ("evaluate", [at], [run / "report" / "metrics.json"]),
        "against": ("evaluate", [at, f"--against={run}"], []),
        "predict": ("predict", [at, str(image), "--json=-"], []),
        "export": ("export", [at, f"--out={out}"], [out / "weights.json", out / "README.md"]),
        "compare": ("compare", [str(run)], []),
        "compare_activations": ("compare_activations", [str(run), str(run)], []),
    }
    return {
        name: damage.Command(repository, script, [*arguments, *here], results)
        for name, (script, arguments, results) in commands.items()
    }


def _try_commands(
    repository: Path, config: str, overrides: dict[str, Any], intact: Path, tmp_path: Path, each: int
) -> damage.Count:
    """Flips `each` random bits in every JSON and CSV file and runs every command on each."""
    generator, run, count = np.random.default_rng(0), tmp_path / "run", damage.Count()
    commands = _commands(repository, config, overrides, run)
    if not (intact / "result.json").is_file():  # these two need a finished run
        for name in ("against", "compare"):
            commands.pop(name).close()
    expected = {}
    for name, command in commands.items():
        damage.copy_run(intact, run)
        expected[name] = command.run()
        assert expected[name][0] == 0, expected[name][2]
    for file in damage.files_of(intact):
        data, relative = file.read_bytes(), file.relative_to(intact)
        for _ in range(each):
            place, bit = int(generator.integers(len(data))), int(generator.integers(8))
            for name, command in commands.items():
                shutil.rmtree(tmp_path / "out", ignore_errors=True)
                damaged = damage.copy_run(intact, run) / relative
                damaged.write_bytes(damage.flipped(data, place, bit))
                outcome = damage.command_outcome(command.run(), expected[name])
                count.add(f"{name} {relative.name}", f"bit {bit} of byte {place}", outcome)
    for command in commands.values():
        command.close()
    return count


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", ["finished", "interrupted"])
def test_the_commands_on_thirty_flips_per_file(
    kind: str,
    request: pytest.FixtureRequest,
    repository: Path,
    smoke_config: str,
    smoke_overrides: dict[str, Any],
    tmp_path: Path,
) -> None:
    intact = request.getfixturevalue(kind)
    overrides = {**smoke_overrides, **ONE_CHECKPOINT}
    if kind == "interrupted":
        overrides["log.every_steps"] = 1
    each = int(os.environ.get("JAXNETS_FLIPS", "30"))
    _check(_try_commands(repository, smoke_config, overrides, intact, tmp_path, each))
