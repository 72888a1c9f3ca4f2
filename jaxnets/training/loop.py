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
        for hook in run.hooks:
            hook.start(run)
        while True:
            if run.evaluation_due():
                _evaluate(run)
            ending = run.ending  # read once: a signal may come at any moment
            if run.stop_reason is not None and run.has_untold_steps:
                _end_interval(run)
            if run.save_due(ending=ending):
                run.save()
            if ending:
                return
            start = time.perf_counter()
            batch, steps = run.next_batch()
            run.state, metrics = run.train_step(run.state, batch)
            metrics = run.took_steps(metrics, steps)
            _log(run, start)
            for hook in run.hooks:
                hook.step(run, metrics)
    finally:
        for hook in run.hooks:
            hook.end(run)


def _evaluate(run: Run) -> None:
    scores = run.score()
    for split, metrics in scores.items():
        line = run.line(split, metrics)
        for hook in run.hooks:
            hook.log(run, line)
    if "validation" in scores:
        for hook in run.hooks:
            hook.epoch(run, scores["validation"])


def _log(run: Run, start: float) -> None:
    """Writes a training line where one is due.

    Fetching metrics waits for the devices; before a pause it is done too, or steps in flight would be
    counted as the evaluation's or the save's time.
    """
    due = run.step % run.plan.log_every == 0 or run.step == run.plan.total_steps
    if due or run.pausing():
        run.collect()
    run.spend(time.perf_counter() - start)
    if due:
        _write_line(run)
        run.agree_to_end()


def _end_interval(run: Run) -> None:
    """The line of a run that is stopped for good between two lines: a short one may have no other."""
    start = time.perf_counter()
    run.collect()
    run.spend(time.perf_counter() - start)
    _write_line(run)


def _write_line(run: Run) -> None:
    line = run.training_line()
    line["values"]["learning_rate"] = run.current_learning_rate()
    for hook in run.hooks:
        hook.log(run, line)
