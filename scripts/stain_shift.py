"""Scores a finished run on its test images in other colours: python scripts/stain_shift.py --workdir RUN."""

from jaxnets.runtime import signals

signals.install()  # before what takes long to import

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from jaxnets.commands import runner
from jaxnets.errors import ConfigError

sys.path.insert(0, str(Path(__file__).parents[1]))  # studies/ is not installed


WORKDIR = flags.DEFINE_string("workdir", None, "The run directory.")
DATA_ROOT = flags.DEFINE_string("data_root", None, "Data folder, where it is not the run's own.")
KEEP = flags.DEFINE_string(
    "keep",
    None,
    "Folder of the run's kept result (results/NAME), for the numbers to stand there too.",
)
IGNORE_DAMAGE = flags.DEFINE_bool(
    "ignore_damage", False, "Use a run directory although files differ from its checksums."
)


def main(arguments: Sequence[str]) -> None:
    """Flags in, one call."""
    if arguments or not WORKDIR.value:
        raise ConfigError("usage: python scripts/stain_shift.py --workdir=RUN")
    from studies import stain_shift  # a wrong flag need not wait for JAX

    kept = Path(KEEP.value) if KEEP.value else None
    stain_shift.stain_shift(
        Path(WORKDIR.value),
        data_root=DATA_ROOT.value,
        stored=kept,
        ignore_damage=IGNORE_DAMAGE.value,
    )


if __name__ == "__main__":
    runner.execute(main)
