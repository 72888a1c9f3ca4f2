"""The tables of docs/performance.md."""

import pytest

from jaxnets.app import performance_page

OPS = {
    "name": "ops/16px/64-64/3x3/1/16/forward",
    "chosen": "lax",
    "ours": 2e11,
    "theirs": 1e11,
    "ratio": 2.0,
    "per_second": {"lax": [2e11], "columns": [1e11], "C++ kernels": [3e11, 4e11, 5e11]},
}
GROWTH = {
    "name": "growth/lenet5/28/64",
    "title": "lenet5, 28 px, batch 64",
    "point": {"processes": 1, "devices": 2},
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
        (OPS, "ops", "| 16px/64-64/3x3/1/16/forward | lax | 200 | 100 | 400 |"),
        ({**OPS, "ratio": 0.5}, "ops", "| lax (the other wins here) | 200 | 100 | 400 |"),
        (GROWTH, "growth", "| lenet5, 28 px, batch 64 | 1 x 2 | 2.5 | 25,600 | 1.50 |"),
        (GPU, "gpu", "| training step, LeNet-5 | 100,000 images/s | 1.50 [1.40, 1.60] | 12% |"),
        ({**GPU, "ratio": None, "range": None}, "gpu", "| 100,000 images/s |  | 12% |"),
    ],
)
def test_a_row_is_in_its_section_alone(row: dict, mark: str, line: str) -> None:
    found = performance_page.sections({"2 cores": [row], "another": []})
    assert line in found.pop(mark)
    assert set(found.values()) == {performance_page.NOT_MEASURED}
