"""The main job: train a network on a recipe, and say what came of it."""

import contextlib
import dataclasses
import datetime
import math
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import config_dict

from jaxnets import config as recipes
from jaxnets import models, published
from jaxnets.app import allocator, environment, workdir
from jaxnets.app.assemble import Evaluator, assemble, check_divisible, other_tests
from jaxnets.app.data import Data, open_source, require_examples, resolve, with_cache
from jaxnets.app.features import can_keep, with_features
from jaxnets.app.leak_meter import Leak, measure_leak, tell_leak
from jaxnets.app.network import Network, make_network
from jaxnets.app.pace import median_speed
from jaxnets.app.pretrained import open_pretrained, require_body, settle_as_begun
from jaxnets.app.screen import Screen
from jaxnets.data import catalog
from jaxnets.data.catalog import TITLES
from jaxnets.data.splits import sha256
from jaxnets.errors import CheckpointError, InterruptedRunError
from jaxnets.evaluation import result as results
from jaxnets.evaluation.metrics import ClassScores
from jaxnets.evaluation.predictions import predictions_path
from jaxnets.files import write_whole
from jaxnets.training.hooks import Hook
from jaxnets.training.hooks.writers import METRICS
from jaxnets.training.loop import train as run_loop
from jaxnets.training.parallel import Devices
from jaxnets.training.parts import NetworkParts
from jaxnets.training.run import Run

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclasses.dataclass(frozen=True)
class Options:
    """What a command says beside its recipe."""

    workdir: str | os.PathLike[str] | None = None
    allow_different_bits: bool = False
    hooks: Sequence[Hook] = ()
    command: str = ""


def train(
    spec: str, overrides: Mapping[str, Any] | None = None, options: Options | None = None
) -> results.Result:
    """Trains the recipe `PATH` or `PATH:VARIANT` to its end, or goes on where it was cut; the result.

    A finished run is told again. Raises the errors of `jaxnets.errors`, InterruptedRunError when a
    signal stopped it after a save.
    """
    options = options or Options()
    devices = Devices.all()
    screen = Screen(quiet=not devices.is_first)
    overrides = dict(overrides or {})
    config = resolve(spec, overrides, screen)
    left_out = models.left_out(config.model, config.data.image_size)
    if left_out:
        screen.line("note", left_out)
    environment.enable_precision(config)
    directory = Path(options.workdir or workdir.default_workdir(config))
    with contextlib.ExitStack() as stack:
        with devices.together():
            if devices.is_first:
                stack.enter_context(workdir.hold(directory))
            done = results.read(directory)
            if done is not None:
                settle_as_begun(config, directory)
                _require_same_run(directory, config)
        if done is not None:
            screen.say(_closing_block(done, directory))
            return done
        with devices.together():
            pretrained = open_pretrained(config, screen, directory)
            data = open_source(config, screen)
            require_examples(data.split)
            check_divisible(config, len(data.split.train), devices)
            if pretrained is not None:
                require_body(config, data.shape, pretrained)
            data = with_cache(data, screen)
            leak = measure_leak(data)
            tell_leak(data, leak, screen)
        with devices.together():
            network = make_network(config, data, pretrained, devices.axis_name)
            if can_keep(config, data):
                data = with_features(config, data, network, screen)
            run, evaluator = assemble(
                config, data, devices, network, directory, screen, options.hooks
            )
            if devices.is_first:  # only now: a recipe that was refused leaves the directory free
                _keep_particulars(directory, config, data, network, options.command)
        with devices.together():
            _resume(run, screen, options)
        _compile(run, evaluator, data, screen)
        with _interruptible(run):
            run_loop(run)
        if run.interrupted is not None:
            raise InterruptedRunError(
                f"stopped at step {run.step}, saved; the same command goes on", run.interrupted
            )
        if run.stop_reason is not None:
            _print_stop(run, screen)
        result = _finish(run, evaluator, data, leak, screen, overrides, options)
        screen.say(_closing_block(result, directory))
        return result


def _require_same_run(directory: Path, config: config_dict.ConfigDict) -> None:
    """Raises ConfigError or DataError unless a finished run is of this recipe, and of the data it names."""
    there = workdir.read_config(directory)
    workdir.keep_config(directory, config)
    if config.data.path != there.data.path:  # elsewhere; the same data or others
        source = catalog.open_source(config.data, recipes.data_root(config))
        workdir.require_data(directory, source.fingerprint)


def _keep_particulars(
    directory: Path, config: config_dict.ConfigDict, data: Data, network: Network, command: str
) -> None:
    """Writes what the run is, or refuses a directory that holds another one."""
    workdir.keep_config(directory, config)
    workdir.require_data(directory, data.source.fingerprint)
    workdir.require_weights(directory, network.body_sha256)
    workdir.keep_split(directory, data.split_csv)
    workdir.keep_manifest(directory, _manifest(data, network, command))


def _resume(run: Run, screen: Screen, options: Options) -> None:
    step, damaged = run.checkpoints.newest_whole()
    for told in damaged:
        screen.line("warning", told)
    if step is None:
        if damaged:
            raise CheckpointError(
                f"no checkpoint in {run.checkpoints.folder} is whole: restore one, "
                "or begin again in another --workdir"
            )
        return
    run.resume(step, allow_different_bits=options.allow_different_bits)
    screen.line("resume", f"from step {run.step} of {run.plan.total_steps}")


def _compile(run: Run, evaluator: Evaluator, data: Data, screen: Screen) -> None:
    """Compiles the training step for every shape of batch that will come, and the evaluation step."""
    if run.ending:
        return
    with screen.phase("compile") as phase:
        for batch in run.batches.shapes():
            run.train_step.compile(run.state, run.place(batch))
        evaluator.compile(run.state, data.split.test)
        phase.text = (
            f"training step, {environment.lowering(run.config)}, on {environment.hardware()}, "
            f"{run.told}{', freed memory kept' if allocator.is_kept() else ''}"
        )


def _print_stop(run: Run, screen: Screen) -> None:
    """Says when and why training stopped before its plan's end, and which state is tested."""
    tested = f"the last state, of step {run.step}"
    if run.config.eval.use_best and run.best_step is not None:
        tested = f"the best checkpoint, of step {run.best_step}"
    elif run.best_step not in (None, run.step):
        tested += f" (--config.eval.use_best=True tests the best, of step {run.best_step})"
    epochs = run.plan.total_steps / run.plan.steps_per_epoch
    screen.line(
        "stop",
        f"at step {run.step} of {run.plan.total_steps}, epoch {run.epoch:g} of {epochs:g}: "
        f"{run.stop_reason}; the test takes {tested}",
    )


@contextlib.contextmanager
def _interruptible(run: Run) -> Iterator[None]:
    """The first signal ends the run after a save; a second one takes the process down at once.

    Signals reach a process's main thread alone: in another one they stay as they were.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {number: signal.getsignal(number) for number in SIGNALS}

    def interrupt(number: int, frame: Any) -> None:
        del frame
        run.interrupt(number)
        signal.signal(number, before[number])

    for number in SIGNALS:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _finish(
    run: Run,
    evaluator: Evaluator,
    data: Data,
    leak: Leak,
    screen: Screen,
    overrides: Mapping[str, Any],
    options: Options,
) -> results.Result:
    config = run.config
    state, tested = run.state, run.step
    if config.eval.use_best and run.best_step is not None:
        tested = run.best_step
        state, _ = run.checkpoints.restore(run.best_step, run.state)
    with screen.phase("evaluate") as phase:
        test = evaluator(state, data.split.test)
        checked = evaluator(state, data.split.validation) if len(data.split.validation) else None
        others = {
            name: other.entry(state, data.split.test)
            for name, other in other_tests(config, data, run.devices).items()
        }
        phase.text = f"{test.examples:,} test examples"
    predictions = evaluator.predictions(test, data.split.test)
    clean = results.test_entry(test, predictions)
    in_heads = models.count_parameters(models.auxiliary_part(run.state.params))
    result = {
        "name": config.name,
        "entry": config.entry,
        "model": config.model.name,
        "cut": config.model.cut,
        "weights": config.transfer.weights,
        "pretrained_on": config.transfer.pretrained_on,
        "frozen": config.transfer.frozen,
        "parameters": models.count_parameters(run.state.params) - in_heads,
        "auxiliary_parameters": in_heads,
        "on_kept_features": data.features is not None,
        "features_seconds": data.features_seconds,
        "trained_parameters": _trained(run, data) - (0 if config.transfer.frozen else in_heads),
        "data": config.data.name,
        "split": data.split.name,
        "split_sha256": sha256(data.split_csv),
        **data.grouping,
        "leak": leak.as_result(),
        "fold": [config.data.fold, config.data.folds] if config.data.folds else None,
        "image_size": config.data.image_size if data.source.kind == "image" else None,
        "epochs": results.epochs_of(run.step, run.plan.steps_per_epoch),
        "seed": config.seed,
        "batch_size": config.train.batch_size,
        "overrides": [f"{name}={value!r}" for name, value in overrides.items()],
        "command": options.command,
        "lowering": environment.lowering(config),
        "test_accuracy": clean.get("accuracy"),
        "test_examples": clean["examples"],
        "test_interval": clean.get("interval"),
        "interval_method": clean.get("interval_method"),
        "tests": {"clean": clean, **others},
        "validation_accuracy": checked.accuracy if isinstance(checked, ClassScores) else None,
        "train_accuracy": run.last_epoch.get("accuracy") if run.last_epoch else None,
        "curves": "metrics.jsonl",
        "seconds": run.seconds,
        "images_per_second": _speed(run),
        "hardware": environment.hardware(),
        "versions": environment.versions(),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "stopped_early": run.stop_reason,
        "step": tested,
        "different_bits": run.different_bits,
        "complete": True,
        "note": config.note,
    }
    if run.devices.is_first:
        if predictions is not None:
            predictions.save(predictions_path(run.workdir))
        write_whole(run.workdir / results.RESULT, results.to_json(result))
    return result


def _speed(run: Run) -> float:
    """Images per second; not a number in processes that write no lines, whose result is not kept."""
    return median_speed(run.workdir / METRICS) if run.devices.is_first else math.nan


def _trained(run: Run, data: Data) -> int:
    """Parameters that training may change, auxiliary heads included where all of the network is trained."""
    if not run.config.transfer.frozen:
        return models.count_parameters(run.state.params)
    parts = NetworkParts.of(models.create(run.config.model), (1, *data.shape))
    return models.count_parameters(parts.split(run.state.params)[0])


def _manifest(data: Data, network: Network, command: str) -> dict[str, Any]:
    return {
        "command": command,
        "versions": environment.versions(),
        "hardware": environment.hardware(),
        "git_commit": environment.git_commit(),
        "data": data.source.name,
        "classes": list(data.source.classes),
        "input_shape": list(data.shape),
        "data_fingerprint": data.source.fingerprint,
        "body_sha256": network.body_sha256,
        "split_sha256": sha256(data.split_csv),
    }


def _closing_block(result: results.Result, directory: Path) -> str:
    return results.closing_block(
        result,
        title=models.entry(result["model"]).title,
        data_title=TITLES[result["data"]],
        workdir=directory,
        published=published.entry(result["entry"]) if result["entry"] else None,
    )
