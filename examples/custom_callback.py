"""Logs a run to Weights & Biases where it is installed, else prints the records.

python scripts/train.py --config=configs/lung_resnet.py:demo --callbacks=examples.custom_callback:LogToWandb
"""

import importlib.util

from jaxnets.training.callbacks import Callback


class LogToWandb(Callback):
    """Sends every record of metrics.jsonl to a W&B run, which is resumed with the training run."""

    stored = ("run_id",)  # in checkpoints, as JSON

    def __init__(self):
        self.run_id, self._run = None, None

    def on_train_begin(self, run):
        """Starts a W&B run, or resumes that of the checkpoint."""
        if importlib.util.find_spec("wandb") is not None:
            import wandb

            self._run = wandb.init(
                project="jaxnets",
                name=run.config.name,
                config=run.config.to_dict(),
                id=self.run_id,
                resume="allow",
            )
            self.run_id = self._run.id

    def on_log(self, run, record):
        """Logs a record: its split ("train", "validation"), step and values."""
        values = {f"{record['split']}/{name}": value for name, value in record["values"].items()}
        if self._run is None:
            print(record["step"], values)
        else:
            self._run.log(values, step=record["step"])

    def on_train_end(self, run):
        """Ends the W&B run."""
        if self._run is not None:
            self._run.finish()
