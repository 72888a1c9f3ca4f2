"""Finds near-duplicate images: python scripts/find_duplicates.py DIR [DIR ...] [--against=TEST].

An original is a photograph with its copies (rotated, mirrored, zoomed or compressed about the same centre).
A crop of another region counts as another original. A group joins all overlapping originals: split by group.
"""

from jaxnets.runtime import signals

signals.install()  # before the slow imports

from collections.abc import Sequence

from absl import flags

from jaxnets.commands import find_duplicates, runner
from jaxnets.data.images import MAX_PIXELS

OUT = flags.DEFINE_string("out", "groups.csv", "The output table: file,original,group.")
AGAINST = flags.DEFINE_multi_string("against", [], "A folder of test images; the others are for training.")
HTML = flags.DEFINE_string("html", None, "The page with pictures (duplicates.html next to the table).")
JSON = flags.DEFINE_string("json", None, "Write statistics as JSON; - is standard output.")
FAIL = flags.DEFINE_bool("fail_on_leak", False, "Exit with code 7 if test images are in training.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of intermediate results (next to the table).")
WORKERS = flags.DEFINE_integer("workers", None, "Number of processes (number of cores).", 1)
PIXELS = flags.DEFINE_integer("max_pixels", MAX_PIXELS, "Maximum number of pixels per image.", 1)


def main(arguments: Sequence[str]) -> None:
    """The arguments are folders of images."""
    find_duplicates.find_duplicates(
        arguments,
        out=OUT.value,
        against=AGAINST.value,
        html=HTML.value,
        json_path=JSON.value,
        fail_on_leak=FAIL.value,
        work_dir=WORKDIR.value,
        workers=WORKERS.value,
        max_pixels=PIXELS.value,
    )


if __name__ == "__main__":
    runner.execute(main, with_kernels=False)
