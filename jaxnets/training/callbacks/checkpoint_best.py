"""Checkpoints of the best metric."""

from jaxnets.training.callbacks.base import Monitor
from jaxnets.training.run import Run


class CheckpointBest(Monitor):
    """Requests a protected checkpoint whenever the monitored metric is the best so far."""

    def on_evaluate(self, run: Run, metrics: dict[str, float]) -> None:
        if self.improved(metrics):
            run.request_checkpoint(best=True)
