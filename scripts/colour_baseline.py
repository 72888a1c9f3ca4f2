"""Baseline from colour histograms: python scripts/colour_baseline.py --config=PATH --out=FILE."""

from jaxnets.runtime import signals

signals.install()  # before the slow imports

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from jaxnets.commands import runner

sys.path.insert(0, str(Path(__file__).parents[1]))  # studies/ is not installed


flags.DEFINE_string("config", None, "The config of the data: PATH or PATH:VARIANT.")
SPLITS = flags.DEFINE_list("splits", ["random", "grouped", "random60", "5folds"], "The splits to evaluate.")
OUT = flags.DEFINE_string("out", "results/lc25000/colour_baseline.json", "The output file.")


def main(arguments: Sequence[str]) -> None:
    """Takes no positional arguments."""
    runner.check_no_arguments(arguments)
    spec, overrides = runner.parse_config_flag()
    from studies import colour_baseline  # imports JAX

    colour_baseline.colour_baseline(spec, overrides, SPLITS.value, Path(OUT.value))


if __name__ == "__main__":
    runner.execute(main)
