"""The convolutions of Inception v3 in the order in which TensorFlow's and Keras's code makes them."""

STEM = ("conv1a", "conv2a", "conv2b", "conv3b", "conv4a")


def _chain(branch: str, count: int) -> tuple[str, ...]:
    return tuple(f"{branch}_{number}" for number in range(1, count + 1))


BLOCK_A = ("branch1x1", *_chain("branch5x5", 2), *_chain("branch3x3dbl", 3), "branch_pool")
BLOCK_B = ("branch3x3", *_chain("branch3x3dbl", 3))
BLOCK_C = ("branch1x1", *_chain("branch7x7", 3), *_chain("branch7x7dbl", 5), "branch_pool")
BLOCK_D = (*_chain("branch3x3", 2), *_chain("branch7x7x3", 4))
BLOCK_E = (
    "branch1x1",
    *("branch3x3_1", "branch3x3_2a", "branch3x3_2b"),
    *("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3a", "branch3x3dbl_3b"),
    "branch_pool",
)
BLOCKS = {
    **dict.fromkeys(("mixed5b", "mixed5c", "mixed5d"), BLOCK_A),
    "mixed6a": BLOCK_B,
    **dict.fromkeys(("mixed6b", "mixed6c", "mixed6d", "mixed6e"), BLOCK_C),
    "mixed7a": BLOCK_D,
    **dict.fromkeys(("mixed7b", "mixed7c"), BLOCK_E),
}
"""By block, in order."""
ORDER = (*STEM, *(f"{block}/{conv}" for block, convs in BLOCKS.items() for conv in convs))
"""Paths of the modules that hold a convolution and its norm."""
