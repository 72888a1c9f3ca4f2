"""Evaluates a run on colour-shifted test images: python scripts/stain_shift.py --workdir RUN."""

from jaxnets.runtime import signals

signals.install()  # before the slow imports

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from jaxnets.commands import runner
from jaxnets.errors import ConfigError

sys.path.insert(0, str(Path(__file__).parents[1]))  # studies/ is not installed


WORKDIR = flags.DEFINE_string("workdir", None, "The run directory.")
DATA_ROOT = flags.DEFINE_string("data_root", None, "Data folder, if not the run's own.")
KEEP = flags.DEFINE_string("keep", None, "Also write the numbers to the run's archived result, results/NAME.")
IGNORE_DAMAGE = runner.define_ignore_damage()


def main(arguments: Sequence[str]) -> None:
    """Takes no positional arguments."""
    if arguments or not WORKDIR.value:
        raise ConfigError("usage: python scripts/stain_shift.py --workdir=RUN")
    from studies import stain_shift  # imports JAX

    stored = Path(KEEP.value) if KEEP.value else None
    stain_shift.stain_shift(
        Path(WORKDIR.value), data_root=DATA_ROOT.value, stored=stored, ignore_damage=IGNORE_DAMAGE.value
    )


if __name__ == "__main__":
    runner.execute(main)
