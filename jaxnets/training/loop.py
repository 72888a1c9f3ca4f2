"""The training loop."""

import time

from jaxnets.training.run import Run


def train(run: Run) -> None:
    """Trains until the last step, until a callback stops the run, or until a signal interrupts it.

    Each iteration evaluates if due, saves if due, gets the next batch, runs its steps and logs. Callbacks
    are called in the order of `run.callbacks`. A call of several steps ends where an event is due.
    """
    try:
        for callback in run.callbacks:
            callback.start(run)
        while True:
            if run.evaluation_due():
                _evaluate(run)
            ending = run.ending  # read once: a signal may arrive at any moment
            if run.stop_reason is not None and run.has_unlogged_steps:
                # A short run that a callback stops may have no other record.
                start = time.perf_counter()
                run.flush_metrics()
                run.add_train_seconds(time.perf_counter() - start)
                _log_train_record(run)
            if run.save_due(ending=ending):
                run.save()
            if ending:
                return
            start = time.perf_counter()
            batch, steps = run.next_batch()
            run.state, metrics = run.train_step(run.state, batch)
            metrics = run.record_steps(metrics, steps)
            _finish_steps(run, start)
            for callback in run.callbacks:
                callback.step(run, metrics)
    finally:
        for callback in run.callbacks:
            callback.end(run)


def _evaluate(run: Run) -> None:
    scores = run.evaluate_now()
    for split, metrics in scores.items():
        record = run.record(split, metrics)
        for callback in run.callbacks:
            callback.log(run, record)
    if "validation" in scores:
        for callback in run.callbacks:
            callback.epoch(run, scores["validation"])


def _finish_steps(run: Run, start: float) -> None:
    """Adds the time of a call and logs a training record if one is due.

    Fetching metrics waits for the devices. Before an evaluation or a save they are fetched too, so that the
    time of steps in flight is counted as training time.
    """
    due = run.step % run.plan.log_every == 0 or run.step == run.plan.total_steps
    if due or run.at_boundary():
        run.flush_metrics()
    run.add_train_seconds(time.perf_counter() - start)
    if due:
        _log_train_record(run)
        run.sync_interrupt()


def _log_train_record(run: Run) -> None:
    record = run.train_record()
    record["values"]["learning_rate"] = run.current_learning_rate()
    for callback in run.callbacks:
        callback.log(run, record)
