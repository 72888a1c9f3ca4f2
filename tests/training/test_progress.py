"""What training shows: a table above a moving line on a terminal, a line for each record elsewhere."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from jaxnets import config as config_lib
from jaxnets.experiment.build import make_plan
from jaxnets.runtime import console
from jaxnets.training.callbacks.logs import MAX_ROWS, ShowProgress
from jaxnets.training.run import TrainingPlan

TRAIN = {"loss": 0.3123, "accuracy": 0.5}


class _Run(SimpleNamespace):
    """A stub of a run with the attributes that the callback uses."""

    def __init__(self, plan: TrainingPlan):
        super().__init__(plan=plan, step=0, last_epoch=None, stop_reason=None)

    @property
    def epoch(self) -> float:
        return self.step / self.plan.steps_per_epoch

    @property
    def seconds(self) -> float:
        return self.step / 10

    @property
    def ending(self) -> bool:
        return self.step == self.plan.total_steps

    def evaluation_due(self) -> bool:
        return self.plan.evaluate_every is not None and self.step % self.plan.evaluate_every == 0

    def fetch_metrics(self) -> None:
        if self.step % self.plan.steps_per_epoch == 0:
            self.last_epoch = {"loss": 1 / self.epoch, "accuracy": 0.25}

    def record(self, split: str, values: dict[str, float]) -> dict[str, object]:
        more = {"images_per_second": 12_345.0, "data_wait": 0.001} if split == "train" else {}
        return {"step": self.step, "epoch": self.epoch, "split": split, "values": values, **more}


@pytest.fixture
def terminal(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Console:
    """A terminal of 80 columns, or of the parameter's."""
    width = getattr(request, "param", 80)
    terminal = Console(file=io.StringIO(), force_terminal=True, width=width, highlight=False)
    monkeypatch.setattr(console.display(), "output", terminal)
    return terminal


def _train(
    callback: ShowProgress, epochs: int, *splits: str, steps_per_epoch: int = 10, values: dict | None = None
) -> list[str]:
    """Runs the callback as the loop does; returns the texts of the moving line."""
    total = epochs * steps_per_epoch
    every = steps_per_epoch if splits else None
    run, moving = _Run(TrainingPlan(total, steps_per_epoch, 7, every, None)), []
    callback.on_train_begin(run)
    while True:
        if run.step and run.evaluation_due():
            for split in splits:
                callback.on_log(run, run.record(split, {"loss": 0.084, "accuracy": 0.978}))
        if run.step == total:
            break
        run.step += 1
        if run.step % 7 == 0 or run.ending:
            callback.on_log(run, run.record("train", values or TRAIN))
        if run.evaluation_due():
            run.fetch_metrics()
        callback.on_step_end(run, {})
        if callback._bar is not None:
            moving.append(callback._bar.tasks[0].description)
    callback.on_train_end(run)
    return moving


def _rows(capture: list[str]) -> list[list[str]]:
    return [line.replace(" %", "%").split() for line in capture]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines that are logged, and thus stay on the terminal."""
    found: list[str] = []
    monkeypatch.setattr(console, "log_text", found.append)
    return found


@pytest.mark.usefixtures("terminal")
def test_training_and_validation_of_an_epoch_are_one_row(lines: list[str]) -> None:
    _train(ShowProgress(), 3, "validation")
    head, *rows = _rows(lines)
    assert " ".join(head) == "epoch train loss accuracy validation loss accuracy images/s time"
    # The training metrics are those of the epoch, not of the last interval.
    assert rows[0] == ["1/3", "1.0000", "25.0%", "0.0840", "97.8%", "12,345", "0:00:01"]
    assert [row[:2] for row in rows] == [["1/3", "1.0000"], ["2/3", "0.5000"], ["3/3", "0.3333"]]
    assert len(set(map(len, lines))) == 1
    assert len(lines[0]) <= 80


def test_rows_stay_on_the_terminal(terminal: Console) -> None:
    _train(ShowProgress(), 2, "validation")
    shown = terminal.file.getvalue()  # type: ignore[attr-defined]
    assert shown.count("\x1b[2K1/2 ") == shown.count("\x1b[2K2/2 ") == 1
    assert shown.count("97.8 %") == 2


@pytest.mark.usefixtures("terminal")
def test_a_monitored_test_is_in_the_same_row(lines: list[str]) -> None:
    _train(ShowProgress("test"), 2, "validation", "test")
    assert len(lines) == 3
    assert lines[0].split()[-3:] == ["test", "loss", "accuracy"]  # speed and time do not fit
    assert max(map(len, lines)) <= 80


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("epochs", [1, 3, MAX_ROWS, 1000])
def test_without_evaluations_each_epoch_has_a_row_up_to_a_maximum(lines: list[str], epochs: int) -> None:
    _train(ShowProgress(), epochs, steps_per_epoch=2)
    head, *rows = _rows(lines)
    assert " ".join(head) == "epoch train loss accuracy images/s time"
    assert len(rows) == min(epochs, MAX_ROWS)
    assert rows[-1][0] == f"{epochs}/{epochs}"


@pytest.mark.usefixtures("terminal")
def test_a_regression_has_small_losses_and_no_accuracy(lines: list[str]) -> None:
    callback = ShowProgress()
    _train(callback, 1, "validation", values={"loss": 2e-5})
    assert callback._interval is not None
    run = _Run(TrainingPlan(10, 10, 1, None, None))
    run.step = 5
    callback._rows = 0
    callback._add_row(run, 80)
    assert _rows(lines[-2:])[0] == ["epoch", "train", "loss", "examples/s", "time"]
    assert _rows(lines[-1:])[0][:2] == ["0.5/1", "2.000e-05"]


@pytest.mark.parametrize("terminal", [80, 120], indirect=True)
def test_moving_line_fits_the_terminal(terminal: Console) -> None:
    moving = _train(ShowProgress(), 100, "validation")
    bar = 21 if terminal.width == 120 else 0
    assert max(map(len, moving)) + bar <= terminal.width
    assert moving[0] == "epoch 0.10/100  step 1/1000"
    shown = "epoch 0.80/100  loss 0.3123  accuracy  50.0 %  0:01:39 left  12,345 images/s"
    assert moving[7] == (shown if terminal.width == 80 else f"{shown}  step 8/1000")
    assert moving[9] == "epoch 1.00/100  evaluating  0:01:39 left"


def test_elsewhere_each_record_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    _train(ShowProgress(), 1, "validation")
    assert capsys.readouterr().out.splitlines() == [
        "train     epoch 0.70/1  step  7/10  loss 0.3123  accuracy  50.0 %  12,345 images/s  waiting 0.1 %  "
        "0:00:00 left",
        "train     epoch 1.00/1  step 10/10  loss 0.3123  accuracy  50.0 %  12,345 images/s  waiting 0.1 %  "
        "0:00:00 left",
        "evaluate  epoch 1.00/1  step 10/10  loss 0.0840  accuracy  97.8 %",
    ]


@pytest.mark.parametrize(("every", "steps_per_epoch"), [(50, 65), (50, 3), (7, 50), (64, 65)])
def test_each_epoch_has_a_record_of_training(every: int, steps_per_epoch: int) -> None:
    config = config_lib.default_config()
    config.train.epochs, config.log.every_steps = 9, every
    plan = make_plan(config, steps_per_epoch)
    logged = {step // steps_per_epoch for step in range(plan.total_steps) if (step + 1) % plan.log_every == 0}
    assert logged == set(range(9))
