"""Multiply-adds, counted by hand."""

import pytest

from jaxnets import config as recipes
from jaxnets import models
from jaxnets.models.cost import multiply_adds


@pytest.mark.parametrize(
    ("name", "shape", "products"),
    [
        ("lenet5", (28, 28, 1), 150 * 24**2 + 2400 * 8**2 + 256 * 120 + 120 * 84 + 84 * 10),
        (
            "alexnet",
            (32, 32, 3),
            1728 * 32**2
            + 307_200 * 15**2
            + (663_552 + 884_736 + 589_824) * 7**2
            + 9216 * 4096
            + 4096**2
            + 4096 * 10,
        ),
    ],
)
def test_products_of_each_layer(name: str, shape: tuple[int, ...], products: int) -> None:
    config = recipes.recipe()
    config.model.name, config.model.num_classes = name, 10
    assert multiply_adds(models.create(config.model), shape) == products
