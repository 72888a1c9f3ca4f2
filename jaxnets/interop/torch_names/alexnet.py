"""AlexNet as reports C and E list it: two `Sequential`s, as torchvision's."""

PLACES = {
    "conv1": "features.0",
    "conv2": "features.3",
    "conv3": "features.6",
    "conv4": "features.8",
    "conv5": "features.10",
    "dense1": "classifier.1",
    "dense2": "classifier.4",
    "classifier": "classifier.6",
}
FLATTENED = {"dense1": 256}


def module_name(path: str) -> str:
    """PyTorch's name of a module of AlexNet."""
    return PLACES[path]
