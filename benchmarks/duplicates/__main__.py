"""Compares finders of duplicate images: python -m benchmarks.duplicates --images=DIR --human=DIR.

`--images` is LC25000's folder lung_image_sets, `--human` the tables of LC25000-clean. Sets, outputs and the
finders' environments are stored in `--workdir`; finished outputs are used again. All of it takes about two
hours on two cores; `--per_class=50` takes a part of the photographs.
"""

from jaxnets.runtime import signals

signals.install()  # before the slow imports

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from benchmarks.duplicates import benchmark
from benchmarks.duplicates.finders import FINDERS
from jaxnets.commands import runner

IMAGES = flags.DEFINE_string("images", None, "LC25000's folder lung_image_sets.", required=True)
HUMAN = flags.DEFINE_string("human", None, "LC25000-clean's tables of clusters.", required=True)
WORKDIR = flags.DEFINE_string("workdir", "runs/duplicates", "Folder of sets, outputs and environments.")
FINDER_NAMES = flags.DEFINE_list("finders", list(FINDERS), f"Some of {', '.join(FINDERS)}.")
PER_CLASS = flags.DEFINE_integer("per_class", None, "Photographs of each class (all).", lower_bound=3)
LIMIT = flags.DEFINE_float("limit", 60.0, "Minutes after which a finder is stopped on a set.", 0.0)
OUTPUT = flags.DEFINE_string("output", "results/bench/duplicates.json", "The results.")
FAILURES = flags.DEFINE_string("failures", "docs/duplicates_failures.jpg", "Picture of our errors.")


def main(arguments: Sequence[str]) -> None:
    """Takes no positional arguments."""
    runner.check_no_arguments(arguments)
    benchmark.run(
        benchmark.Options(
            images=Path(IMAGES.value),
            human=Path(HUMAN.value),
            workdir=Path(WORKDIR.value),
            finders=tuple(FINDER_NAMES.value),
            per_class=PER_CLASS.value,
            limit=LIMIT.value,
            output=Path(OUTPUT.value),
            failures=Path(FAILURES.value),
        )
    )


if __name__ == "__main__":
    runner.execute(main, with_kernels=False)
