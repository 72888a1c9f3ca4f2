"""Checks the MLP's backpropagation: python scripts/verify_mlp.py [--all] [--slips] [--json] [--plot=DIR]."""

from jaxnets.runtime import signals

signals.install()  # before the slow imports

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from jaxnets.commands import runner

sys.path.insert(0, str(Path(__file__).parents[1]))  # studies/ is not installed


ALL = flags.DEFINE_bool("all", False, "Print all 41 updated parameters, not one per tensor.")
SLIPS = flags.DEFINE_bool("slips", False, "Also evaluate the report's formulas as printed.")
JSON = flags.DEFINE_bool("json", False, "Print everything as JSON instead.")
PLOT = flags.DEFINE_string("plot", None, "Folder for plots of the network and its loss.")


def main(arguments: Sequence[str]) -> None:
    """Takes no positional arguments."""
    runner.check_no_arguments(arguments)
    from benchmarks import mlp_torch
    from studies import verify_mlp  # imports JAX

    options = verify_mlp.Options(
        as_json=JSON.value,
        every_value=ALL.value,
        errata=SLIPS.value,
        plot=None if PLOT.value is None else Path(PLOT.value),
    )
    verify_mlp.verify(options, mlp_torch.oracle())


if __name__ == "__main__":
    runner.execute(main)
