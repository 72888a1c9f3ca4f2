"""The training loop: one order, written down once."""

import time

from jaxnets.training.run import Run


def train(run: Run) -> None:
    """Trains until the plan ends, a hook asks to stop, or a signal interrupts.

    The order of a turn: evaluate if due, save if due (state, data position and hooks together), take
    the next batch, step, log. Hooks hear of each in the order in which they stand in the run. Where a call
    takes several steps, it ends where anything is due.
    """
    try:
        for callback in run.callbacks:
            callback.start(run)
        while True:
            if run.evaluation_due():
                _evaluate(run)
            ending = run.ending  # read once: a signal may come at any moment
            if run.stop_reason is not None and run.has_unlogged_steps:
                _end_interval(run)
            if run.save_due(ending=ending):
                run.save()
            if ending:
                return
            start = time.perf_counter()
            batch, steps = run.next_batch()
            run.state, metrics = run.train_step(run.state, batch)
            metrics = run.record_steps(metrics, steps)
            _log(run, start)
            for callback in run.callbacks:
                callback.step(run, metrics)
    finally:
        for callback in run.callbacks:
            callback.end(run)


def _evaluate(run: Run) -> None:
    scores = run.score()
    for split, metrics in scores.items():
        line = run.line(split, metrics)
        for callback in run.callbacks:
            callback.log(run, line)
    if "validation" in scores:
        for callback in run.callbacks:
            callback.epoch(run, scores["validation"])


def _log(run: Run, start: float) -> None:
    """Writes a training line where one is due.

    Fetching metrics waits for the devices; before a pause it is done too, or steps in flight would be
    counted as the evaluation's or the save's time.
    """
    due = run.step % run.plan.log_every == 0 or run.step == run.plan.total_steps
    if due or run.at_boundary():
        run.flush_metrics()
    run.add_train_seconds(time.perf_counter() - start)
    if due:
        _write_line(run)
        run.sync_interrupt()


def _end_interval(run: Run) -> None:
    """The line of a run that is stopped for good between two lines: a short one may have no other."""
    start = time.perf_counter()
    run.flush_metrics()
    run.add_train_seconds(time.perf_counter() - start)
    _write_line(run)


def _write_line(run: Run) -> None:
    line = run.train_record()
    line["values"]["learning_rate"] = run.current_learning_rate()
    for callback in run.callbacks:
        callback.log(run, line)
