"""Writes the tables of results/ into README and docs/: python scripts/compare.py [--check].

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

README = flags.DEFINE_string("readme", "README.md", "The page with the tables.")
PERFORMANCE = flags.DEFINE_string(
    "performance", str(compare.PERFORMANCE), "The performance page; empty for none."
)
LC25000 = flags.DEFINE_string("lc25000", str(compare.LC25000), "The LC25000 page; empty for none.")
TABLES = flags.DEFINE_list(
    "tables", list(map(str, compare.TABLES)), "Tables of runs; missing ones are reported."
)
RESULTS = flags.DEFINE_string("results", "results", "The results folder.")
CHECK = flags.DEFINE_bool("check", False, "Write nothing; exit with 7 if a page is out of date.")
IGNORE_DAMAGE = runner.define_ignore_damage()


def main(arguments: Sequence[str]) -> None:
    """The arguments are run directories to print."""
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
