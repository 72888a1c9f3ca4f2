"""bfloat16 compared with float32: LeNet-5 on MNIST, five seeds, and ResNet-50 on LC25000 at 64 px.

python scripts/reproduce.py bfloat16. The rows in float32 are those of the sweeps lenet and lung.
"""

from typing import Any

from ._cpu import cpu_row
from .lenet import SEEDS

BFLOAT16 = {"model.compute_dtype": "bfloat16"}


def get_rows() -> list[dict[str, Any]]:
    """Returns one row per network, split and seed."""
    lenet = [
        {
            "name": f"lenet_mnist-adam-bfloat16-s{seed}",
            "config": "configs/lenet_mnist.py:adam",
            "overrides": BFLOAT16,
            "seed": seed,
        }
        for seed in SEEDS
    ]
    rows = [cpu_row("resnet", split) for split in ("random", "grouped")]
    for row in rows:
        row["name"] = row["name"].replace("-s0", "-bfloat16-s0")
        row["overrides"] = row["overrides"] | BFLOAT16
    return lenet + rows
