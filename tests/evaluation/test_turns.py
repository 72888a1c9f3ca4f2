"""The eight flips and rotations of images."""

import jax.numpy as jnp
import numpy as np

from jaxnets.evaluation.turns import TURNS, turn

IMAGES = np.arange(2 * 4 * 4 * 3).reshape(2, 4, 4, 3)


def test_turns_are_those_of_numpy() -> None:
    mirrored = IMAGES[:, :, ::-1]
    expected = [np.rot90(images, k, axes=(1, 2)) for images in (IMAGES, mirrored) for k in range(4)]
    for number in range(TURNS):
        np.testing.assert_array_equal(turn(IMAGES, number), expected[number])
        np.testing.assert_array_equal(turn(jnp.asarray(IMAGES), number), expected[number])
        np.testing.assert_array_equal(turn(IMAGES[0], number), expected[number][0])


def test_turns_are_eight_and_a_group() -> None:
    one = {turn(IMAGES[0], number).tobytes() for number in range(TURNS)}
    assert len(one) == TURNS
    for number in range(TURNS):
        turned = turn(IMAGES[0], number)
        assert {turn(turned, other).tobytes() for other in range(TURNS)} == one
