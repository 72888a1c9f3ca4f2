"""Builds the C++ kernels for CPUs: python scripts/build_kernels.py [--compiler=g++]."""

from jaxnets.runtime import signals

signals.install()  # before what takes long to import

import os
from collections.abc import Sequence

from absl import flags

from jaxnets.commands import runner
from jaxnets.errors import ConfigError
from jaxnets.ops.cpu_kernels import build, load
from jaxnets.runtime.console import Reporter

COMPILER = flags.DEFINE_string("compiler", None, "None takes $CXX, else c++, g++ or clang++.")


def main(arguments: Sequence[str]) -> None:
    """Flags in, one call."""
    if arguments:
        raise ConfigError(f"what is {arguments[0]!r}? Options are given as --name=value")
    compiler = COMPILER.value or os.environ.get("CXX")
    reporter = Reporter()
    with reporter.phase("build") as phase:
        path = build.build(runner.kernels_folder(), compiler)
        forms = ", ".join(form.instructions for form in load.load(path))
        phase.text = (
            "convolution, max pooling and batch norm's sums for CPUs in C++ "
            f"({forms}); runs use them from now on"
        )
    reporter.line("saved", str(path))


if __name__ == "__main__":
    runner.execute(main, with_kernels=False)  # what is there may be what is to be mended
