"""Splits a dataset without training: python scripts/split.py --config=configs/NAME.py --out=split.csv."""

from jaxnets.runtime import signals

signals.install()  # before the slow imports

from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from jaxnets.commands import runner

config_flags.DEFINE_config_file("config", None, "The config: PATH or PATH:VARIANT.")
OUT = flags.DEFINE_string("out", "split.csv", "The output table: index,file,label,split,group.")


def main(arguments: Sequence[str]) -> None:
    """Takes no positional arguments."""
    runner.check_no_arguments(arguments)
    spec, overrides = runner.parse_config_flag()
    from jaxnets.commands import split  # imports JAX

    split.write_split(spec, overrides, Path(OUT.value))


if __name__ == "__main__":
    runner.execute(main)
