"""Inference engines and torch.compile compute the logits of the network that they are given."""

import functools
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from benchmarks import baselines, comparisons, conditions, inference_engines, jax_workloads
from benchmarks.measure import TOLERANCE, check_outputs_match
from benchmarks.torch_workloads import InferenceWorkload
from benchmarks.worker import Worker

pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module")
def ours() -> jax_workloads.InferenceWorkload:
    return jax_workloads.InferenceWorkload(None, network="lenet5", image_size=28, batch_size=4)


def outputs(kind: str, make: Any, shared: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the logits of the network and those of the program that is measured."""
    if not baselines.available((kind,)):
        pytest.skip(f"{kind} is missing")
    with Worker(make, shared, keep_memory=False) as worker:
        return worker.call("outputs"), worker.call("measured_outputs")


def difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max() / np.abs(other).max())


@pytest.mark.parametrize("engine", inference_engines.ENGINES)
def test_an_engine_computes_the_logits(engine: str, ours: jax_workloads.InferenceWorkload) -> None:
    shared = ours.shared_data()
    make = functools.partial(inference_engines.EngineWorkload, engine=engine, threads=1)
    network, program = outputs(engine, make, shared)
    check_outputs_match("inference", engine, ours.outputs(), network)
    check_outputs_match("inference", engine, ours.measured_outputs(), program)
    shared["arrays"] = {name: 1.01 * array for name, array in shared["arrays"].items()}
    _, program = outputs(engine, make, shared)
    assert difference(program, ours.measured_outputs()) > TOLERANCE


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("openvino", functools.partial(inference_engines.EngineWorkload, engine="openvino")),
        ("eager", functools.partial(InferenceWorkload, channels_last=True)),
    ],
)
def test_bfloat16_is_used(kind: str, make: Any, ours: jax_workloads.InferenceWorkload) -> None:
    make = functools.partial(make, threads=1, bfloat16=True)
    network, program = outputs(kind, make, ours.shared_data())
    check_outputs_match("inference", "theirs", ours.outputs(), network)
    found = difference(program, network)
    assert found < comparisons.BFLOAT16_TOLERANCE
    if conditions.has_bfloat16():  # OpenVINO computes in float32 without it
        assert found > TOLERANCE


@pytest.mark.slow
def test_a_compiled_and_frozen_network_computes_the_logits(ours: jax_workloads.InferenceWorkload) -> None:
    found = baselines.of_network(("compile",), trains=False, bfloat16=False, threads=1)
    _, program = outputs("compile", found[baselines.COMPILED].make, ours.shared_data())
    check_outputs_match("inference", "compiled", ours.measured_outputs(), program)
