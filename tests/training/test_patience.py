"""`patience` counts evaluations as Keras and optax do; PyTorch's ReduceLROnPlateau waits for one more."""

import importlib.util
import json
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.oracles import FOLDER
from jaxnets.training.callbacks.monitors import EarlyStopping, ReduceOnPlateau

pytestmark = pytest.mark.usefixtures("optax_promotion")

LOSSES = ([0.9, 0.8, 0.85, 0.85, 0.7, 0.75, 0.75, 0.75, 0.75, 0.6, 0.7], [0.5, 0.6, 0.6, 0.6, 0.6])
CASES = [(list(losses), patience) for losses in LOSSES for patience in (0, 1, 2, 3)]


def _stop_and_rates(losses: list[float], patience: int) -> tuple[int | None, list[float]]:
    """Returns the evaluation after which our run stops, or None, and the learning rate after each."""
    run: Any = SimpleNamespace(reason=None, scale=1.0)
    run.stop = lambda reason: setattr(run, "reason", reason)
    run.scale_learning_rate = lambda value: setattr(run, "scale", value)
    stop = EarlyStopping("validation_loss", patience=patience)
    plateau = ReduceOnPlateau(
        "validation_loss", patience=patience, factor=0.1, cooldown=0, min_delta=1e-9, min_scale=0.0
    )
    stopped, rates = None, []
    for number, loss in enumerate(losses, 1):
        for callback in (stop, plateau):
            callback.on_evaluate(run, {"loss": loss})
        rates.append(run.scale)
        if run.reason and stopped is None:
            stopped = number
    return stopped, rates


@pytest.mark.parametrize(("patience", "stopped", "reduced"), [(0, 3, 3), (1, 3, 3), (2, 4, 4), (3, 8, 8)])
def test_patience_counts_evaluations_without_improvement(patience: int, stopped: int, reduced: int) -> None:
    """The loss improves at the first, second and fifth evaluation."""
    found, rates = _stop_and_rates(list(LOSSES[0]), patience)
    assert found == stopped
    assert next(number for number, rate in enumerate(rates, 1) if rate < 1) == reduced


@pytest.mark.oracle
def test_patience_matches_keras() -> None:
    if importlib.util.find_spec("keras") is None:  # not imported, because its backend is not set
        pytest.skip("needs Keras")
    program = [sys.executable, str(FOLDER / "keras_callbacks.py"), json.dumps(CASES)]
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(program, env=environment, check=True, capture_output=True, text=True)
    theirs = json.loads(done.stdout.splitlines()[-1])
    for case, (stopped, rates) in zip(CASES, theirs, strict=True):
        ours = _stop_and_rates(*case)
        assert ours[0] == stopped, case
        assert ours[1] == pytest.approx(rates), case


@pytest.mark.oracle
@pytest.mark.parametrize("patience", [1, 2])
def test_pytorch_plateau_waits_one_more_evaluation(patience: int) -> None:
    torch = pytest.importorskip("torch")
    for losses in LOSSES:
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, factor=0.1, patience=patience, threshold=0.0
        )
        rates = []
        for loss in losses:
            plateau.step(loss)
            rates.append(optimizer.param_groups[0]["lr"])
        assert rates == pytest.approx(_stop_and_rates(list(losses), patience + 1)[1])
