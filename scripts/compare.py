"""Writes the tables of results/ into README.md and docs/: python scripts/compare.py [--check].

With run directories it only prints their table: python scripts/compare.py RUN [RUN ...].
"""

from jaxnets.runtime import signals

signals.install()  # before the slow imports

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from jaxnets.commands import runner

sys.path.insert(0, str(Path(__file__).parents[1]))  # studies/ is not installed

from studies import compare

ROOT = flags.DEFINE_string("root", ".", "The repository.")
RESULTS = flags.DEFINE_string("results", None, "The results folder; by default ROOT/results.")
CHECK = flags.DEFINE_bool("check", False, "Write nothing; exit with 7 if a page is out of date.")
IGNORE_DAMAGE = runner.define_ignore_damage()


def main(arguments: Sequence[str]) -> None:
    """The arguments are run directories to print."""
    if arguments:
        return compare.print_runs(
            [Path(argument) for argument in arguments], ignore_damage=IGNORE_DAMAGE.value
        )
    root = Path(ROOT.value)
    compare.compare(
        root,
        Path(RESULTS.value) if RESULTS.value else None,
        sweeps=[root / sweep for sweep in compare.SWEEPS],
        check=CHECK.value,
    )


if __name__ == "__main__":
    runner.execute(main)
