"""The training loop."""

from jaxnets.errors import InterruptedRunError
from jaxnets.training.run import LogRecord, Run, check_finite


def train(run: Run) -> None:
    """Trains until the last step, until a callback stops the run, or until a signal interrupts it.

    Args:
        run: the run. Its callbacks are called in order. A call of several steps ends where an event is due.

    Raises:
        DivergedError: a loss or gradient is not finite.
    """
    try:
        for callback in run.callbacks:
            callback.on_train_begin(run)
        while True:
            if run.evaluation_due():
                _evaluate(run)
            ending = run.ending  # read once: a signal may arrive at any moment
            if run.stop_reason is not None:
                run.fetch_metrics()
                if run.interval is not None:  # a short run may have no other record
                    _log(run, run.train_record())
            if ending or run.save_due():
                run.save()
            if ending:
                return
            with run.training_time():
                batch, steps = run.next_batch()
                run.state, metrics = run.train_step(run.state, batch)
            metrics = run.record_steps(metrics, steps)
            if run.log_due():
                _log(run, run.train_record())
                run.sync_interrupt()
            elif run.ending or run.evaluation_due() or run.save_due():
                run.fetch_metrics()  # so that steps in flight count as training time
            for callback in run.callbacks:
                callback.on_step_end(run, metrics)
    finally:
        for callback in run.callbacks:
            callback.on_train_end(run)


def _evaluate(run: Run) -> None:
    try:
        scores = run.evaluate(run.state)
    except InterruptedRunError:
        return  # the resumed run evaluates again
    run.evaluated = run.step
    for split, metrics in scores.items():
        _log(run, run.record(split, metrics))
    if "validation" in scores:
        for callback in run.callbacks:
            callback.on_evaluate(run, scores["validation"])


def _log(run: Run, record: LogRecord) -> None:
    for callback in run.callbacks:
        callback.on_log(run, record)
    check_finite(record["values"], record["split"], record["step"])
