"""Inference by ONNX Runtime and OpenVINO. This module must not import JAX, like torch_workloads.py."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.clock import Clock
from benchmarks.torch_workloads import NetworkWorkload
from benchmarks.worker import process_peak_memory

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
      bfloat16: Whether the engine may compute in bfloat16; else it computes in float32.
    """

    def __init__(self, shared: Mapping[str, Any], *, engine: str, threads: int, bfloat16: bool = False):
        source = NetworkWorkload(shared, channels_last=False, threads=threads)
        self._inputs = source.images.numpy()
        self._reference = source.outputs()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            # dynamo=False: OpenVINO reads this exporter's files of every network.
            source.torch.onnx.export(
                source.network.eval(),
                source.images,
                str(path),
                opset_version=ONNX_OPSET,
                dynamo=False,
            )
            self._run = ENGINES[engine](path, self._inputs, threads, bfloat16)
        self._clock = Clock(self._run)

    def outputs(self) -> np.ndarray:
        """Returns the logits of the batch."""
        return self._run()

    def measure(self, seconds: float) -> float:
        """Returns images per second."""
        return len(self._inputs) * self._clock.rate(seconds)

    def peak_memory(self) -> int | None:
        """Returns the peak memory of the process in bytes."""
        return process_peak_memory()


def _onnxruntime(path: Path, inputs: np.ndarray, threads: int, bfloat16: bool) -> Run:
    import onnxruntime

    assert not bfloat16, "ONNX Runtime computes in float32 on CPUs"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: inputs})[0]


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
    "ONNX Runtime": _onnxruntime,
    "OpenVINO": _openvino,
}
