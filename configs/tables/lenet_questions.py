"""What the parts of LeNet-5 and the optimizers are worth: python scripts/reproduce.py lenet_questions.

The page docs/lenet_and_alexnet.md is made of these results. The rows of AlexNet come last.
"""

from typing import Any

CONFIG = "configs/lenet_questions.py"
CHANGES = (
    {},
    {"model.activation": "sigmoid"},
    {"model.activation": "tanh"},
    {"model.pooling": "average"},
    {"model.kernel_size": 3},
    {"model.kernel_size": 7},
    {"model.dropout": 0.5},
)
RATES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)


def get_rows() -> list[dict[str, Any]]:
    """One change a row, then the rates of each optimizer, LeNet-5 on CIFAR-10, AlexNet on MNIST."""
    rows: list[dict[str, Any]] = [{"config": f"{CONFIG}:mnist", "overrides": c} for c in CHANGES]
    rows += [
        {
            "config": f"{CONFIG}:{variant}",
            "overrides": {"optimizer.learning_rate": rate},
        }
        for variant in ("mnist", "mnist_sgd")
        for rate in RATES
        if (variant, rate) != ("mnist", 1e-3)  # the first row
    ]
    return [*rows, {"config": f"{CONFIG}:cifar10"}, {"config": f"{CONFIG}:alexnet_mnist"}]
