"""Trains the runs of a table: python scripts/reproduce.py TABLE [--budget=MINUTES]; see configs/sweeps/."""

from jaxnets.runtime import signals

signals.install()  # before the slow imports

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from jaxnets.commands import runner
from jaxnets.errors import ConfigError

sys.path.insert(0, str(Path(__file__).parents[1]))  # studies/ is not installed


BUDGET = flags.DEFINE_float("budget", None, "Minutes, after which the current run is saved and paused.", 0.0)
LIST = flags.DEFINE_bool("list", False, "List the runs and their states; train nothing.")
ONLY = flags.DEFINE_list("only", [], "Runs whose name contains one of these texts.")
SHARD = flags.DEFINE_string(
    "shard", None, "I/N: every N-th run from the I-th on, so that N machines share a table."
)
RUNS = flags.DEFINE_string("runs", "runs", "Folder of run directories.")
RESULTS = flags.DEFINE_string("results", "results", "Folder of archived results.")
ALLOW_NONDETERMINISTIC_RESUME = flags.DEFINE_bool(
    "allow_nondeterministic_resume", False, "Resume although hardware or library versions have changed."
)
IGNORE_DAMAGE = runner.define_ignore_damage()


def main(arguments: Sequence[str]) -> None:
    """The argument is the table's name or path."""
    if len(arguments) != 1:
        raise ConfigError("give one table: python scripts/reproduce.py TABLE; see configs/sweeps/")
    from studies import reproduce  # imports JAX

    train_flags = runner.shared_flags()
    if ALLOW_NONDETERMINISTIC_RESUME.value:
        train_flags.append(ALLOW_NONDETERMINISTIC_RESUME.serialize())
    options = reproduce.Options(
        runs=Path(RUNS.value),
        results=Path(RESULTS.value),
        only=ONLY.value,
        shard=SHARD.value,
        budget=None if BUDGET.value is None else 60 * BUDGET.value,
        train_flags=train_flags,
        ignore_damage=IGNORE_DAMAGE.value,
    )
    do = reproduce.list_rows if LIST.value else reproduce.reproduce
    do(arguments[0], options)


if __name__ == "__main__":
    runner.execute(main)
