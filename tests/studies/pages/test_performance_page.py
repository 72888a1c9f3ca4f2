"""The tables of docs/performance.md."""

import pytest

from studies.pages import performance_page

OPS = {
    "name": "ops/16px/64-64/3x3/1/16/forward",
    "chosen": "lax",
    "ours": 2e11,
    "theirs": 1e11,
    "ratio": 2.0,
    "range": [1.9, 2.1],
    "per_second": {"lax": [2e11], "columns": [1e11], "C++ kernels": [3e11, 4e11, 5e11], "product": [6e11]},
}
GPU = {
    "name": "train/lenet5/28/64/bfloat16",
    "title": "training step, LeNet-5",
    "ours": 1e5,
    "ratio": 1.5,
    "range": [1.4, 1.6],
    "mfu": 0.125,
    "baseline": "compiled",
    "peak_memory": {"ours": 3 * 2**29, "compiled": 2**31},
}


@pytest.mark.parametrize(
    ("row", "mark", "line"),
    [
        (OPS, "ops", "| forward | 1 | 200 | 100 | 400 | 600 |"),
        (GPU, "gpu", "| training step, LeNet-5 | 100,000 images/s | 1.50 [1.40, 1.60] | 12% | 1.50 / 2.00 |"),
        ({**GPU, "ratio": None, "range": None}, "gpu", "| 100,000 images/s |  | 12% | 1.50 / 2.00 |"),
        ({**GPU, "peak_memory": None}, "gpu", "[1.40, 1.60] | 12% |  |"),
    ],
)
def test_a_row_is_in_one_section_only(row: dict, mark: str, line: str) -> None:
    found = performance_page.sections({"2 cores": [row], "another": []})
    assert line in found.pop(mark)
    assert set(found.values()) == {performance_page.NOT_MEASURED}


def test_the_csv_file_has_every_convolution() -> None:
    other = {**OPS, "name": "ops/8px/64-64/3x3/1/16/forward", "range": [0.4, 0.6], "per_second": {}}
    made = performance_page.csv_files({"2 cores": [OPS, other, GPU]})
    assert made["convolutions.csv"].splitlines()[1:] == [
        "2 cores,16px/64-64/3x3/1/16,forward,lax,200.0,100.0,400.0,600.0,False",
        "2 cores,8px/64-64/3x3/1/16,forward,lax,200.0,100.0,,,True",
    ]
    assert made["profile.csv"].count("\n") == 1
