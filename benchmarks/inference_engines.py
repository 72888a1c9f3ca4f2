"""Inference by ONNX Runtime and OpenVINO. This module must not import JAX, like torch_workloads.py."""

import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.clock import Clock
from benchmarks.torch_workloads import NetworkWorkload

ONNX_OPSET = 18
Run = Callable[[], np.ndarray]
"""Computes the logits of the batch, [B, classes]."""


class EngineWorkload:
    """A network in an inference engine, with the weights of jaxnets, on a normalized batch.

    The engine reads the ONNX file that PyTorch exports.

    Args:
      shared: What `jax_workloads.NetworkWorkload.shared_data` returns.
      engine: A key of `ENGINES`.
      threads: CPU threads of the engine.
      bfloat16: Whether OpenVINO computes in bfloat16; else both compute in float32.
    """

    def __init__(self, shared: Mapping[str, Any], *, engine: str, threads: int, bfloat16: bool = False):
        source = NetworkWorkload(shared, channels_last=False, threads=threads)
        self._inputs, self._float32_logits = source.images.numpy(), source.outputs()
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            path = Path(folder) / "model.onnx"
            warnings.simplefilter("ignore", DeprecationWarning)
            # dynamo=False: OpenVINO reads this exporter's files of every network.
            source.torch.onnx.export(
                source.network, (source.images,), str(path), opset_version=ONNX_OPSET, dynamo=False
            )
            self._run = ENGINES[engine](path, self._inputs, threads, bfloat16)
        self._clock = Clock(self._run)

    def outputs(self) -> np.ndarray:
        """Returns the logits of the network that was exported, in full single precision."""
        return self._float32_logits

    def measured_outputs(self) -> np.ndarray:
        """Returns the engine's logits of the batch."""
        return self._run()

    def measure(self, seconds: float) -> float:
        """Returns images per second."""
        return len(self._inputs) * self._clock.rate(seconds)

    def peak_memory(self) -> None:
        """Returns None: the process also has PyTorch, which exports the network."""


def _onnxruntime(path: Path, inputs: np.ndarray, threads: int, bfloat16: bool) -> Run:
    import onnxruntime

    assert not bfloat16, "ONNX Runtime computes in float32 on CPUs"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda: np.asarray(session.run(None, {name: inputs})[0])


def _openvino(path: Path, inputs: np.ndarray, threads: int, bfloat16: bool) -> Run:
    import openvino

    core = openvino.Core()
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",
    }
    model = core.read_model(str(path))
    model.reshape(inputs.shape)
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    request.set_input_tensor(openvino.Tensor(inputs, shared_memory=True))

    def run() -> np.ndarray:
        request.infer()
        return np.array(request.get_output_tensor(0).data)

    return run


ENGINES: Mapping[str, Callable[[Path, np.ndarray, int, bool], Run]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
}
