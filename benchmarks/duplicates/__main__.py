"""Compares finders of duplicate images: python -m benchmarks.duplicates --images=DIR --human=DIR.

`--images` is LC25000's folder lung_image_sets, `--human` the tables of LC25000-clean. Writes
results/bench/duplicates.json and docs/duplicates_benchmark.md with its pictures. Sets, outputs and the
finders' environments are stored in `--workdir`; a run that was stopped resumes with the same command.
"""

from jaxnets.runtime import signals

signals.install()  # before the slow imports

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from benchmarks.duplicates import benchmark
from benchmarks.duplicates.finders import FINDERS
from jaxnets.commands import runner
from jaxnets.io import user_cache_folder

IMAGES = flags.DEFINE_string("images", None, "LC25000's folder lung_image_sets.", required=True)
HUMAN = flags.DEFINE_string("human", None, "LC25000-clean's tables of clusters.", required=True)
WORKDIR = flags.DEFINE_string(
    "workdir",
    str(user_cache_folder() / "duplicates_benchmark"),
    "Folder of sets, outputs and environments, outside of the repository.",
)
FINDER_NAMES = flags.DEFINE_list("finders", list(FINDERS), f"Some of {', '.join(FINDERS)}.")
PHOTOGRAPHS = flags.DEFINE_integer("photographs", None, "Random photographs to use (all).", lower_bound=9)
LIMIT = flags.DEFINE_float(
    "limit", 15.0, "Minutes of processor time after which a finder is stopped on a set.", 0.0
)
JOBS = flags.DEFINE_integer("jobs", 2, "Finders that run at the same time.", lower_bound=1)
RESULTS = flags.DEFINE_string("results", "results/bench", "Folder of duplicates.json.")
DOCS = flags.DEFINE_string("docs", "docs", f"Folder of {benchmark.PAGE} and its pictures.")


def main(arguments: Sequence[str]) -> None:
    """Takes no positional arguments."""
    runner.check_no_arguments(arguments)
    benchmark.run(
        benchmark.Options(
            images=Path(IMAGES.value),
            human=Path(HUMAN.value),
            workdir=Path(WORKDIR.value).absolute(),
            finders=tuple(FINDER_NAMES.value),
            photographs=PHOTOGRAPHS.value,
            limit=LIMIT.value,
            jobs=JOBS.value,
            results=Path(RESULTS.value),
            docs=Path(DOCS.value),
        )
    )


if __name__ == "__main__":
    runner.execute(main, with_kernels=False)
