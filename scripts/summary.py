"""A network's layers and counts: python scripts/summary.py MODEL [--num_classes=N] [--image_size=N]."""

from jaxnets.runtime import signals

signals.install()  # before what takes long to import

from collections.abc import Sequence

from absl import flags

from jaxnets.commands import runner
from jaxnets.errors import ConfigError

NUM_CLASSES = flags.DEFINE_integer("num_classes", None, "3 without; 10 for LeNet-5.", lower_bound=1)
IMAGE_SIZE = flags.DEFINE_integer(
    "image_size", None, "Pixels a side; without, the network's own.", lower_bound=1
)
VARIANT = flags.DEFINE_string("variant", None, "Whose form, where the network has several.")


def main(arguments: Sequence[str]) -> None:
    """The network is the argument."""
    from jaxnets.commands import summary  # a wrong flag need not wait for JAX

    if len(arguments) != 1:
        raise ConfigError("name one network: python scripts/summary.py resnet50")
    summary.summarize(
        arguments[0],
        num_classes=NUM_CLASSES.value,
        image_size=IMAGE_SIZE.value,
        variant=VARIANT.value,
    )


if __name__ == "__main__":
    runner.execute(main, with_kernels=False)
