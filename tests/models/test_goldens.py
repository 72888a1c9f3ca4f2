"""Networks reproduce stored values, which matched PyTorch, without PyTorch."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

GOLDEN = Path(__file__).parent.parent / "golden"


def _load_make_goldens():
    spec = importlib.util.spec_from_file_location("make_goldens", GOLDEN / "make_goldens.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["lenet5", "resnet_short", pytest.param("resnet50", marks=pytest.mark.slow)])
def test_logits_loss_and_gradients_match_the_golden_values(name: str) -> None:
    golden = json.loads((GOLDEN / f"{name}.json").read_text())
    maker = _load_make_goldens()
    computed = maker.compute(maker.CASES[name])
    for key in ("logits", "training_logits", "loss"):
        np.testing.assert_allclose(computed[key], golden[key], rtol=1e-9, atol=1e-10, err_msg=key)
    for key in ("gradient_norms", "gradient_products", "statistics_norms"):
        assert computed[key].keys() == golden[key].keys()
        for path, value in golden[key].items():
            size = golden["gradient_norms"].get(path, 0) if key == "gradient_products" else 0
            np.testing.assert_allclose(
                computed[key][path], value, rtol=1e-7, atol=1e-12 + 1e-7 * size, err_msg=f"{key} {path}"
            )
