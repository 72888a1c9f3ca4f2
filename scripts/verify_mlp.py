"""Proves the MLP's backpropagation: python scripts/verify_mlp.py [--all] [--slips] [--json] [--plot=DIR]."""

from jaxnets.runtime import signals

signals.install()  # before what takes long to import

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from jaxnets.commands import runner
from jaxnets.errors import ConfigError

sys.path.insert(0, str(Path(__file__).parents[1]))  # studies/ is not installed


ALL = flags.DEFINE_bool("all", False, "Show all 41 updated parameters, not one a tensor.")
SLIPS = flags.DEFINE_bool("slips", False, "Also carry out the report's formulas as printed.")
JSON = flags.DEFINE_bool("json", False, "Print everything as JSON instead.")
PLOT = flags.DEFINE_string("plot", None, "Folder for pictures of the network and its loss.")


def main(arguments: Sequence[str]) -> None:
    """Flags in, one call."""
    if arguments:
        raise ConfigError(f"what is {arguments[0]!r}? Options are given as --name=value")
    from benchmarks import mlp_torch
    from studies import verify_mlp  # a wrong flag need not wait for JAX

    options = verify_mlp.Options(
        as_json=JSON.value,
        every_value=ALL.value,
        errata=SLIPS.value,
        plot=None if PLOT.value is None else Path(PLOT.value),
    )
    verify_mlp.verify(options, mlp_torch.oracle())


if __name__ == "__main__":
    runner.execute(main)
