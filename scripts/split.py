"""Divides a data set without training: python scripts/split.py --config=configs/NAME.py --out=split.csv."""

from jaxnets.runtime import signals

signals.install()  # before what takes long to import

from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from jaxnets.commands import runner
from jaxnets.errors import ConfigError

CONFIG = config_flags.DEFINE_config_file("config", None, "The recipe: PATH or PATH:VARIANT.")
OUT = flags.DEFINE_string("out", "split.csv", "Where the table index,file,label,split,group goes.")


def main(arguments: Sequence[str]) -> None:
    """Flags in, one call."""
    if arguments:
        raise ConfigError(f"what is {arguments[0]!r}? Options are given as --name=value")
    spec, overrides = runner.parse_config_flag(CONFIG)
    from jaxnets.commands import split  # a wrong flag need not wait for JAX

    split.write_split(spec, overrides, Path(OUT.value))


if __name__ == "__main__":
    runner.execute(main)
