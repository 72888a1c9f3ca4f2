"""Measures prediction sets and unlike images: python scripts/uncertainty.py --workdir=DIR --out=FILE.

DIR is the folder of a cross-validation, in which `evaluate --ood` has been run on the first fold.
"""

from jaxnets.runtime import signals

signals.install()  # before the slow imports

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from jaxnets.commands import runner
from jaxnets.errors import ConfigError

sys.path.insert(0, str(Path(__file__).parents[1]))  # studies/ is not installed


WORKDIR = flags.DEFINE_string("workdir", None, "The folder of scripts/cross_validate.py.")
OUT = flags.DEFINE_string("out", None, "The JSON file to write.")


def main(arguments: Sequence[str]) -> None:
    """Takes no positional arguments."""
    if arguments or not WORKDIR.value or not OUT.value:
        raise ConfigError("usage: python scripts/uncertainty.py --workdir=DIR --out=FILE")
    from studies import uncertainty  # imports JAX

    uncertainty.measure(Path(WORKDIR.value), Path(OUT.value))


if __name__ == "__main__":
    runner.execute(main)
