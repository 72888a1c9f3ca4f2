"""Test-time augmentation: the mean over the eight flips and rotations of square images."""

from typing import Any

TURNS = 8


def turn(images: Any, number: int) -> Any:
    """Turns images [..., S, S, C] by `number` % 4 quarters, after mirroring them if `number` is 4 or more.

    The eight results permute the pixels without interpolation; number 0 is the image itself.
    """
    if number >= 4:
        images = images[..., ::-1, :]
    for _ in range(number % 4):
        images = images.swapaxes(-3, -2)[..., ::-1, :, :]
    return images
