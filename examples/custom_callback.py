"""Stops training once the validation accuracy is good enough.

python scripts/train.py --config=configs/lung_resnet.py:demo --callbacks=examples.custom_callback:StopWhenGood
"""

from jaxnets.training.callbacks import Callback


class StopWhenGood(Callback):
    """Stops once validation accuracy exceeds `accuracy` at two evaluations in a row."""

    stored = ("times",)  # attributes that checkpoints store

    def __init__(self, accuracy: float = 0.99):
        self.accuracy, self.times = accuracy, 0

    def on_evaluate(self, run, metrics):
        """Counts the evaluations in a row that were good."""
        self.times = self.times + 1 if metrics["accuracy"] > self.accuracy else 0
        if self.times == 2:
            run.stop(f"accuracy above {self.accuracy} at two evaluations")
