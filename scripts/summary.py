"""Prints a network's layers: python scripts/summary.py MODEL [--num_classes=N] [--image_size=N].

With --all it prints a line for each network: parameters, multiply-adds, image sizes and ImageNet weights.
"""

from jaxnets.runtime import signals

signals.install()  # before the slow imports

from collections.abc import Sequence

from absl import flags

from jaxnets.commands import runner
from jaxnets.errors import ConfigError
from jaxnets.io import command

NUM_CLASSES = flags.DEFINE_integer(
    "num_classes", None, "Number of classes (3, or 10 for LeNet-5).", lower_bound=1
)
IMAGE_SIZE = flags.DEFINE_integer(
    "image_size", None, "Pixels per side (the network's default).", lower_bound=1
)
VARIANT = flags.DEFINE_string("variant", None, "Variant of the network.")
ALL = flags.DEFINE_boolean("all", False, "Print a line for each network.")


def main(arguments: Sequence[str]) -> None:
    """The argument is the network's name."""
    from jaxnets.commands import summary  # imports JAX

    if ALL.value:
        if arguments or NUM_CLASSES.value or IMAGE_SIZE.value or VARIANT.value:
            raise ConfigError("--all takes no network and no other flags")
        summary.print_registry()
        return
    if len(arguments) != 1:
        raise ConfigError(f"give one network, or --all: {command('summary')} resnet50")
    summary.summarize(
        arguments[0], num_classes=NUM_CLASSES.value, image_size=IMAGE_SIZE.value, variant=VARIANT.value
    )


if __name__ == "__main__":
    runner.execute(main, with_kernels=False)
