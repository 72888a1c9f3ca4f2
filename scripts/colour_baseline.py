"""How far colour alone goes: python scripts/colour_baseline.py --config=configs/lung_resnet.py --out=FILE."""

from jaxnets.runtime import signals

signals.install()  # before what takes long to import

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from jaxnets.commands import runner
from jaxnets.errors import ConfigError

sys.path.insert(0, str(Path(__file__).parents[1]))  # studies/ is not installed


CONFIG = config_flags.DEFINE_config_file("config", None, "The recipe whose images are taken.")
SPLITS = flags.DEFINE_list("splits", ["random", "grouped"], "The splits to fit and test under.")
OUT = flags.DEFINE_string("out", "results/lc25000/colour_baseline.json", "Where the figures go.")


def main(arguments: Sequence[str]) -> None:
    """Flags in, one call."""
    if arguments:
        raise ConfigError(f"what is {arguments[0]!r}? Options are given as --name=value")
    spec, overrides = runner.parse_config_flag(CONFIG)
    from studies import colour_baseline  # a wrong flag need not wait for JAX

    colour_baseline.colour_baseline(spec, overrides, SPLITS.value, Path(OUT.value))


if __name__ == "__main__":
    runner.execute(main)
