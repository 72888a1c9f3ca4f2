"""Inception v1 as torchvision's GoogLeNet names it."""

STEM = {"conv1": "conv1", "conv2_reduce": "conv2", "conv2": "conv3"}
BRANCHES = {
    "conv1x1": "branch1",
    "reduce3x3": "branch2.0",
    "conv3x3": "branch2.1",
    "reduce5x5": "branch3.0",
    "conv5x5": "branch3.1",
    "pool_projection": "branch4.1",
}
DENSE = {
    "classifier": "fc",
    **{f"auxiliary{number}/dense": f"aux{number}.fc1" for number in (1, 2)},
    **{f"auxiliary{number}/classifier": f"aux{number}.fc2" for number in (1, 2)},
}
FLATTENED = {"auxiliary1/dense": 128, "auxiliary2/dense": 128}


def module_name(path: str) -> str:
    """The name in torchvision of a module of InceptionV1, such as inception3a/conv5x5/norm."""
    if path in DENSE:
        return DENSE[path]
    *places, kind = path.split("/")
    first, *inner = places
    named = [STEM.get(first, first.replace("auxiliary", "aux"))]
    named += [BRANCHES.get(name, name) for name in inner]
    return ".".join([*named, kind.replace("norm", "bn")])
