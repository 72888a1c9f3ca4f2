"""Finds near-duplicate images: python scripts/find_duplicates.py DIR [--out=groups.csv] [--workdir=DIR].

An original is one photograph with its copies, turned, mirrored, zoomed or compressed about one centre; a
crop from elsewhere in it is an original of its own. A group joins all that overlap: split by groups.
"""

from jaxnets.runtime import signals

signals.install()  # before what takes long to import

from collections.abc import Sequence

from absl import flags

from jaxnets.commands import find_duplicates, runner
from jaxnets.data.images import MAX_PIXELS

OUT = flags.DEFINE_string("out", "groups.csv", "The table to write: file,original,group.")
WORKDIR = flags.DEFINE_string("workdir", None, "Work files; None puts them beside the table.")
WORKERS = flags.DEFINE_integer("workers", None, "Processes; None takes as many as cores.", 1)
PIXELS = flags.DEFINE_integer("max_pixels", MAX_PIXELS, "The most pixels an image may have.", 1)


def main(arguments: Sequence[str]) -> None:
    """The folder of images is the one argument."""
    find_duplicates.find_duplicates(
        arguments,
        out=OUT.value,
        work=WORKDIR.value,
        workers=WORKERS.value,
        max_pixels=PIXELS.value,
    )


if __name__ == "__main__":
    runner.execute(main, with_kernels=False)
