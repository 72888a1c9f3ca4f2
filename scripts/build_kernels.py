"""Builds the C++ kernels for CPUs: python scripts/build_kernels.py [--compiler=g++]."""

from jaxnets.runtime import signals

signals.install()  # before the slow imports

from collections.abc import Sequence

from absl import flags

from jaxnets.commands import runner
from jaxnets.ops.cpu_kernels import build, load
from jaxnets.runtime import console

COMPILER = flags.DEFINE_string("compiler", None, "Default: $CXX, else c++, g++ or clang++.")


def main(arguments: Sequence[str]) -> None:
    """Takes no positional arguments."""
    runner.check_no_arguments(arguments)
    with console.phase("build") as phase:
        path = build.build(runner.kernels_folder(), COMPILER.value)
        forms = ", ".join(form.instructions for form in load(path))
        phase.text = (
            f"C++ convolution, max pooling and batch norm for CPUs ({forms}); runs use them by default"
        )
    console.log("saved", str(path))


if __name__ == "__main__":
    runner.execute(main, with_kernels=False)  # existing ones may be broken
