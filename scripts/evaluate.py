"""Evaluates a run or compares it with another: python scripts/evaluate.py --workdir RUN [--against=RUN]."""

from jaxnets.runtime import signals

signals.install()  # before the slow imports

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from jaxnets.commands import runner
from jaxnets.errors import ConfigError
from jaxnets.io import command

WORKDIR = flags.DEFINE_string("workdir", None, "The run directory.")
SPLIT = flags.DEFINE_string("split", "test", "train, validation or test.")
DATA_ROOT = flags.DEFINE_string("data_root", None, "Data folder, if not the run's own.")
AGAINST = flags.DEFINE_string(
    "against", None, "Compare stored predictions with another run or predictions/PART.npz."
)
OOD = flags.DEFINE_bool(
    "ood", False, "Also fit the score of predict --ood, on training and validation images."
)
TURNS = flags.DEFINE_bool(
    "test_time_augmentation", False, "Also evaluate the mean over the eight flips and rotations of an image."
)
IGNORE_DAMAGE = runner.define_ignore_damage()


def main(arguments: Sequence[str]) -> None:
    """Takes no positional arguments."""
    if arguments or not WORKDIR.value:
        raise ConfigError(f"usage: {command('evaluate')} --workdir=RUN [--split=test]")
    from jaxnets.commands import evaluate  # imports JAX

    if AGAINST.value:
        evaluate.compare_runs(
            Path(WORKDIR.value), Path(AGAINST.value), part=SPLIT.value, ignore_damage=IGNORE_DAMAGE.value
        )
    else:
        evaluate.evaluate(
            Path(WORKDIR.value),
            part=SPLIT.value,
            data_root=DATA_ROOT.value,
            ood=OOD.value,
            ignore_damage=IGNORE_DAMAGE.value,
            turns=TURNS.value,
        )


if __name__ == "__main__":
    runner.execute(main)
