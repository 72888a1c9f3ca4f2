"""Scores a run again, or sets it beside another: python scripts/evaluate.py --workdir RUN [--against=RUN]."""

from jaxnets.runtime import signals

signals.install()  # before what takes long to import

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from jaxnets.commands import runner
from jaxnets.errors import ConfigError

WORKDIR = flags.DEFINE_string("workdir", None, "The run directory.")
SPLIT = flags.DEFINE_string("split", "test", "Which part: train, validation or test.")
DATA_ROOT = flags.DEFINE_string("data_root", None, "Data folder, where it is not the run's own.")
AGAINST = flags.DEFINE_string(
    "against", None, "Another run, or predictions/PART.npz: compares kept answers, scores nothing."
)
IGNORE_DAMAGE = flags.DEFINE_bool(
    "ignore_damage", False, "Use a run directory although files differ from its checksums."
)


def main(arguments: Sequence[str]) -> None:
    """Flags in, one call."""
    if arguments or not WORKDIR.value:
        raise ConfigError("usage: python scripts/evaluate.py --workdir=RUN [--split=test]")
    from jaxnets.commands import compare_runs, evaluate  # a wrong flag need not wait for JAX

    if AGAINST.value:
        compare_runs.compare_runs(
            Path(WORKDIR.value),
            Path(AGAINST.value),
            part=SPLIT.value,
            ignore_damage=IGNORE_DAMAGE.value,
        )
    else:
        evaluate.evaluate(
            Path(WORKDIR.value),
            part=SPLIT.value,
            data_root=DATA_ROOT.value,
            ignore_damage=IGNORE_DAMAGE.value,
        )


if __name__ == "__main__":
    runner.execute(main)
