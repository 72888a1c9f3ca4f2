"""Logs a run to Weights & Biases.

python scripts/train.py --config=configs/lung_resnet.py:demo --callbacks=examples.wandb_callback:WandbLogger
"""

import os
from typing import Any

from jaxnets.errors import ConfigError
from jaxnets.training.callbacks import Callback
from jaxnets.training.run import LogRecord, Run


class WandbLogger(Callback):
    """Sends the config and every record of metrics.jsonl to a W&B run, which is resumed with this run.

    W&B's own environment variables have its settings: WANDB_PROJECT (default "jaxnets"), WANDB_MODE=offline.
    Its files are in the run directory. Records that were sent after the last checkpoint of an interrupted run
    are not sent again.
    """

    stored = ("run_id",)

    def __init__(self) -> None:
        self.run_id: str | None = None
        self._run: Any = None

    def on_train_begin(self, run: Run) -> None:
        """Starts a W&B run, or resumes that of the checkpoint; raises ConfigError if it is not installed."""
        if not run.devices.is_process_zero:
            return
        try:
            import wandb
        except ImportError as error:
            raise ConfigError("WandbLogger needs the package wandb: pip install 'jaxnets[wandb]'") from error
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "jaxnets"),
            dir=run.workdir,
            name=run.workdir.name,
            config=run.config.to_dict(),
            id=self.run_id,
            resume="allow",
            settings=wandb.Settings(console="off"),  # the progress display rewrites its lines
        )
        self.run_id = self._run.id

    def on_log(self, run: Run, record: LogRecord) -> None:
        """Sends the values of a record as SPLIT/NAME, with the epoch."""
        if self._run is not None:
            values = {f"{record['split']}/{name}": value for name, value in record["values"].items()}
            self._run.log({**values, "epoch": record["epoch"]}, step=record["step"])

    def on_train_end(self, run: Run) -> None:
        """Ends the W&B run."""
        if self._run is not None:
            self._run.finish()
            self._run = None
