"""Puts the tables of results/ into README and pages of docs/: python scripts/compare.py [--check].

With run directories it prints their table alone, and writes nothing: python scripts/compare.py RUN [RUN ...].
"""

from jaxnets.runtime import signals

signals.install()  # before what takes long to import

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from jaxnets.commands import runner

sys.path.insert(0, str(Path(__file__).parents[1]))  # studies/ is not installed

from studies import compare

README = flags.DEFINE_string("readme", "README.md", "The page that holds the tables.")
PERFORMANCE = flags.DEFINE_string(
    "performance", str(compare.PERFORMANCE), "The page on speed; empty for none."
)
LC25000 = flags.DEFINE_string(
    "lc25000", str(compare.LC25000), "The page on LC25000's splits; empty for none."
)
TABLES = flags.DEFINE_list(
    "tables", list(map(str, compare.TABLES)), "The tables whose missing rows are named."
)
RESULTS = flags.DEFINE_string("results", "results", "Where results are kept.")
CHECK = flags.DEFINE_bool("check", False, "Write nothing; exit 7 where the page shows others.")
IGNORE_DAMAGE = flags.DEFINE_bool(
    "ignore_damage", False, "Use a run directory although files differ from its checksums."
)


def main(arguments: Sequence[str]) -> None:
    """Run directories are told alone; else flags in, one call."""
    if arguments:
        return compare.print_runs(
            [Path(argument) for argument in arguments], ignore_damage=IGNORE_DAMAGE.value
        )
    compare.compare(
        Path(README.value),
        Path(RESULTS.value),
        performance=Path(PERFORMANCE.value) if PERFORMANCE.value else None,
        lc25000=Path(LC25000.value) if LC25000.value else None,
        tables=[Path(table) for table in TABLES.value],
        check=CHECK.value,
    )


if __name__ == "__main__":
    runner.execute(main)
