"""Writes a network for others: python scripts/export.py --workdir=RUN [--out=DIR] [--layout=torch]."""

from jaxnets.runtime import signals

signals.install()  # before what takes long to import

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from jaxnets.commands import runner
from jaxnets.errors import ConfigError

WORKDIR = flags.DEFINE_string("workdir", None, "A run directory, or a weights folder.")
OUT = flags.DEFINE_string("out", None, "The new folder; without, WORKDIR/export.")
LAYOUT = flags.DEFINE_string("layout", None, "Also LAYOUT.safetensors: torch or keras.")
IGNORE_DAMAGE = flags.DEFINE_bool(
    "ignore_damage", False, "Use a run directory although files differ from its checksums."
)


def main(arguments: Sequence[str]) -> None:
    """There are no arguments beside the flags."""
    from jaxnets.commands import export  # a wrong flag need not wait for JAX

    if not WORKDIR.value or arguments:
        raise ConfigError("--workdir=RUN is missing: the directory of a trained run")
    export.export(
        Path(WORKDIR.value),
        Path(OUT.value) if OUT.value else None,
        layout=LAYOUT.value,
        ignore_damage=IGNORE_DAMAGE.value,
    )


if __name__ == "__main__":
    runner.execute(main, with_kernels=False)  # the program must run where they are not
