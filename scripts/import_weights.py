"""Imports other libraries' weights: python scripts/import_weights.py SOURCE DEST."""

from jaxnets.runtime import signals

signals.install()  # before the slow imports

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from jaxnets.commands import runner
from jaxnets.errors import ConfigError

MODEL = flags.DEFINE_string("model", None, "The network; inferred from the array names by default.")
LAYOUT = flags.DEFINE_string(
    "layout", None, "Array names: torch, timm, efficientnet_pytorch, keras or inception_2015."
)
VARIANT = flags.DEFINE_string("variant", None, "Variant of the network, such as pool3 or pool2 of alexnet.")
CLASSES = flags.DEFINE_string("classes", None, "File of class names: one per line, or a JSON list.")
NUM_CLASSES = flags.DEFINE_integer(
    "num_classes", None, "Number of classes if the file has no classifier.", lower_bound=1
)
IMAGE_SIZE = flags.DEFINE_integer(
    "image_size", None, "Pixels per side (the network's default).", lower_bound=1
)
PREPROCESSING = flags.DEFINE_string(
    "preprocessing", None, "imagenet, half ([-1, 1]), caffe, inception_2015 or unknown."
)
PARTIAL = flags.DEFINE_bool("partial", False, "Import despite missing or unexpected arrays.")


def main(arguments: Sequence[str]) -> None:
    """SOURCE is a .safetensors, .h5 or .pth file or hub:OWNER/NAME; DEST becomes a weights folder."""
    from jaxnets.commands import import_weights  # imports JAX
    from jaxnets.interop import foreign

    if len(arguments) != 2:
        raise ConfigError("give two arguments: SOURCE DEST")
    options = foreign.Options(
        model=MODEL.value,
        layout=LAYOUT.value,
        variant=VARIANT.value,
        num_classes=NUM_CLASSES.value,
        image_size=IMAGE_SIZE.value,
        preprocessing=PREPROCESSING.value,
        classes=CLASSES.value,
        partial=PARTIAL.value,
    )
    import_weights.import_weights(arguments[0], Path(arguments[1]), options)


if __name__ == "__main__":
    runner.execute(main, with_kernels=False)  # mostly shapes are computed
