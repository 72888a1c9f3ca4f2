"""Inception v3 as keras.applications numbers it."""

from jaxnets.interop.inception_order import ORDER


def layer_name(path: str) -> str:
    """The name in Keras of a module of InceptionV3, such as mixed5b/branch5x5_1/norm.

    Raises KeyError for the auxiliary classifier, which Keras's network has not.
    """
    if path == "classifier":
        return "predictions"
    place, _, kind = path.rpartition("/")
    if place not in ORDER:
        raise KeyError(path)
    return numbered("batch_normalization" if kind == "norm" else "conv2d", ORDER.index(place))


def numbered(name: str, number: int) -> str:
    """Keras leaves the number 0 out."""
    return f"{name}_{number}" if number else name
