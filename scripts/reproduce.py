"""Makes a table's runs: python scripts/reproduce.py TABLE [--budget=MINUTES], TABLE of configs/tables/."""

from jaxnets.runtime import signals

signals.install()  # before what takes long to import

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from jaxnets.commands import runner
from jaxnets.errors import ConfigError

sys.path.insert(0, str(Path(__file__).parents[1]))  # studies/ is not installed


BUDGET = flags.DEFINE_float("budget", None, "Minutes; then the run is saved and cut.", 0.0)
LIST = flags.DEFINE_bool("list", False, "Show the rows and where each stands; run nothing.")
ONLY = flags.DEFINE_list("only", [], "Rows whose name holds one of these texts.")
RUNS = flags.DEFINE_string("runs", "runs", "Where run directories are.")
RESULTS = flags.DEFINE_string("results", "results", "Where finished results are kept.")
ALLOW_DIFFERENT_BITS = flags.DEFINE_bool(
    "allow_nondeterministic_resume", False, "Resume although the machine or versions have changed."
)
IGNORE_DAMAGE = flags.DEFINE_bool(
    "ignore_damage", False, "Use a run directory although files differ from its checksums."
)


def main(arguments: Sequence[str]) -> None:
    """The table's name or path is the one argument."""
    if len(arguments) != 1:
        raise ConfigError("name one table: python scripts/reproduce.py TABLE; see configs/tables/")
    from studies import reproduce  # a wrong flag need not wait for JAX

    train_flags = runner.shared_flags()
    for flag in (ALLOW_DIFFERENT_BITS, IGNORE_DAMAGE):
        if flag.value:
            train_flags.append(flag.serialize())
    options = reproduce.Options(
        runs=Path(RUNS.value),
        results=Path(RESULTS.value),
        only=ONLY.value,
        budget=None if BUDGET.value is None else 60 * BUDGET.value,
        train_flags=train_flags,
        ignore_damage=IGNORE_DAMAGE.value,
    )
    do = reproduce.list_rows if LIST.value else reproduce.reproduce
    do(arguments[0], options)


if __name__ == "__main__":
    runner.execute(main)
