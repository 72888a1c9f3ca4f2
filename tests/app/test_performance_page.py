"""The tables of docs/performance.md."""

import pytest

from jaxnets.app import performance_page

OPS = {
    "name": "ops/16px/64-64/3x3/1/16/forward",
    "chosen": "lax",
    "ours": 2e11,
    "theirs": 1e11,
    "ratio": 2.0,
    "range": [1.9, 2.1],
    "per_second": {
        "lax": [2e11],
        "columns": [1e11],
        "C++ kernels": [3e11, 4e11, 5e11],
        "product": [6e11],
    },
}
GROWTH = {
    "name": "growth/lenet5/28/64",
    "title": "lenet5, 28 px, batch 64",
    "point": {
        "network": "lenet5",
        "image_size": 28,
        "batch_size": 64,
        "processes": 1,
        "devices": 2,
    },
    "lowering": "C++ kernels",
    "seconds_a_step": 0.0025,
    "ours": 25_600.0,
    "peak_memory": {"ours": 3 * 2**29},
}
GPU = {
    "name": "train/lenet5/28/64/bfloat16",
    "title": "training step, LeNet-5",
    "ours": 1e5,
    "ratio": 1.5,
    "range": [1.4, 1.6],
    "mfu": 0.125,
}


@pytest.mark.parametrize(
    ("row", "mark", "line"),
    [
        (OPS, "ops", "| 16px/64-64/3x3/1/16/forward | lax | 200 | 100 | 400 | 600 |"),
        ({**OPS, "range": [0.4, 0.6]}, "ops", "| lax (the other wins here) | 200 | 100 | 400 |"),
        (
            GROWTH,
            "growth",
            "| lenet5, 28 px, batch 64, C++ kernels | 1 x 2 | 2.5 | 25,600 | 1.50 |",
        ),
        (GPU, "gpu", "| training step, LeNet-5 | 100,000 images/s | 1.50 [1.40, 1.60] | 12% |"),
        ({**GPU, "ratio": None, "range": None}, "gpu", "| 100,000 images/s |  | 12% |"),
    ],
)
def test_a_row_is_in_its_section_alone(row: dict, mark: str, line: str) -> None:
    found = performance_page.sections({"2 cores": [row], "another": []})
    assert line in found.pop(mark)
    assert set(found.values()) == {performance_page.NOT_MEASURED}


def test_growth_is_told_in_sentences() -> None:
    def row(seconds: float, gib: int, **point: int) -> dict:
        there = {**GROWTH["point"], "devices": 1, **point}
        return {
            **GROWTH,
            "point": there,
            "seconds_a_step": seconds,
            "ours": there["batch_size"] / seconds,
            "peak_memory": {"ours": gib * 2**30},
        }

    rows = [row(0.002, 1), row(0.016, 3, batch_size=256), row(0.005, 2, image_size=56)]
    told = performance_page.sections({"2 cores": [*rows, row(0.004, 1, devices=2)]})["growth"]
    assert "from a batch of 64 to 256, 4 times the pixels, a step takes 8.0 times as long" in told
    assert "memory goes from 1.00 to 3.00 GiB" in told
    assert "from 28 to 56 px a side, 4 times the pixels, a step takes 2.5 times" in told
    assert "1 x 2 processes x devices on the same cores give 0.50 of the images/s of one" in told
    assert "performance/growth.png" in told
