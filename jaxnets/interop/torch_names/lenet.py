"""LeNet-5 as reports C and E list it."""

DENSE = {"dense1": "fc1", "dense2": "fc2", "classifier": "fc3"}
FLATTENED = {"dense1": 16}


def module_name(path: str) -> str:
    """PyTorch's name of a module of LeNet5."""
    return DENSE.get(path, path)
