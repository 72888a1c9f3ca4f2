"""ONNX files of jaxnets and of PyTorch side by side."""

import pytest

from benchmarks import onnx_exports

pytestmark = pytest.mark.oracle


def test_both_files_have_the_same_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_exports, "IMAGE_SIZE", 64)
    monkeypatch.setattr(onnx_exports, "ROUNDS", 2)
    monkeypatch.setattr(onnx_exports, "SECONDS", 0.01)
    monkeypatch.setattr(onnx_exports, "BATCH_SIZES", (1, 3))
    row = onnx_exports.measure("mobilenet_v2")
    assert all(4 * 3_400_000 < size < 4 * 3_600_000 for size in row["bytes"])  # 3,504,872 parameters
    assert list(row["batches"]) == ["1", "3"]
    for found in row["batches"].values():
        assert found["difference"] < 1e-4
        assert min(found["images_per_second"]) > 0
