"""The table of ONNX files."""

import json
from pathlib import Path

import pytest

from jaxnets.errors import ConfigError
from studies.pages.onnx_table import NUMBERS, rows


def test_a_row_has_sizes_times_and_ratios(tmp_path: Path) -> None:
    assert rows(tmp_path) == []
    batches = {
        "1": {"images_per_second": [50.0, 40.0], "ratio": 1.2, "quartiles": [1.1, 1.3]},
        "16": {"images_per_second": [160.0, 200.0], "ratio": 0.8, "quartiles": [0.7, 0.9]},
    }
    row = {
        "network": "resnet50",
        "bytes": [102_100_000, 102_500_000],
        "operations": [130, 124],
        "batches": batches,
    }
    (tmp_path / NUMBERS).parent.mkdir()
    (tmp_path / NUMBERS).write_text(json.dumps({"rows": [row]}))
    ratios = "1.20 [1.10, 1.30]", "0.80 [0.70, 0.90]"
    assert rows(tmp_path) == [("ResNet-50", "102.1 / 102.5 MB", "130 / 124", *ratios)]
    (tmp_path / NUMBERS).write_text("[]")
    with pytest.raises(ConfigError, match="is not a file of benchmarks.onnx_exports"):
        rows(tmp_path)
