"""ONNX files of jaxnets against those that PyTorch exports, in ONNX Runtime.

    python -m benchmarks.onnx_exports

Both files have the same weights and any batch size, take normalized float32 images and return logits. They
run in one process, by turns.
"""

import functools
import importlib.metadata
import io
import json
import statistics
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import config_dict

from benchmarks.clock import Clock
from benchmarks.conditions import measurement_conditions
from benchmarks.jax_model import make_config
from benchmarks.oracles import check_torch_libraries, load
from jaxnets import models
from jaxnets.commands.export import onnx_program
from jaxnets.commands.model_card import describe
from jaxnets.experiment import environment
from jaxnets.interop.convert import to_torch
from jaxnets.interop.weights import Preprocessing, Weights
from jaxnets.io import atomic_write
from jaxnets.runtime import console, xla

NETWORKS, IMAGE_SIZE, BATCH_SIZES = ("resnet50", "mobilenet_v2", "inception_v3"), 224, (1, 16)
THREADS, ROUNDS, SECONDS, OPSET = 2, 15, 0.5, 17
LIBRARIES = ("torch", "torchvision", "onnxruntime")
NUMBERS = Path("results") / "bench" / "onnx_exports.json"
"""studies/pages/onnx_table.py makes a table of it."""


def measure(network: str) -> dict[str, Any]:
    """Sizes in bytes, numbers of operations, and medians of the rounds of both files, ours first.

    The ratio is the median over rounds of our images per second divided by PyTorch's of the same round.
    """
    import onnx

    config = make_config(network, IMAGE_SIZE, 1)
    config.model.num_classes, config.model.auxiliary_heads = 1000, False
    shape = (IMAGE_SIZE, IMAGE_SIZE, 3)
    variables = load("drawn").variables(models.create(config.model), (1, *shape))
    files = _ours(config, variables, shape), _theirs(config, variables, shape)
    row: dict[str, Any] = {
        "network": network,
        "bytes": [len(file) for file in files],
        "operations": [len(onnx.load_from_string(file).graph.node) for file in files],
        "batches": {},
    }
    for batch in BATCH_SIZES:
        images = np.random.default_rng(0).normal(size=(batch, *shape)).astype(np.float32)
        inputs = images, np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        runs = [_session(file, images) for file, images in zip(files, inputs, strict=True)]
        logits, expected = (run() for run in runs)
        row["batches"][str(batch)] = {
            "difference": float(np.abs(logits - expected).max() / np.abs(expected).max()),
            **_interleave(runs, batch),
        }
    return row


def _interleave(runs: Sequence[Callable[[], np.ndarray]], batch: int) -> dict[str, Any]:
    clocks = [Clock(run) for run in runs]
    rates = np.array([[batch * clock.rate(SECONDS) for clock in clocks] for _ in range(ROUNDS)])
    low, ratio, high = np.percentile(rates[:, 0] / rates[:, 1], (25, 50, 75))
    medians = [statistics.median(column) for column in rates.T.tolist()]
    return {"images_per_second": medians, "ratio": ratio, "quartiles": [low, high]}


def _ours(config: config_dict.ConfigDict, variables: dict[str, Any], shape: tuple[int, ...]) -> bytes:
    preprocessing = Preprocessing(IMAGE_SIZE, tuple(config.data.mean), tuple(config.data.std))
    weights = Weights(variables, config.model, shape, preprocessing=preprocessing)
    return onnx_program(describe(weights, preprocessing, None, has_logits=True), raw=True)


def _theirs(config: config_dict.ConfigDict, variables: dict[str, Any], shape: tuple[int, ...]) -> bytes:
    import torch

    networks = load("networks")
    content: Any = io.BytesIO()
    network = networks.make_network(config).eval()
    name = config.model.name
    networks.load_arrays(
        network, {k: v for tree in variables.values() for k, v in to_torch(name, tree).items()}
    )
    size, _, channels = shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter
        torch.onnx.export(
            network,
            (torch.zeros(1, channels, size, size),),
            content,
            opset_version=OPSET,
            input_names=["images"],
            dynamic_axes={"images": {0: "batch"}},
            dynamo=False,  # the other exporter needs onnxscript
        )
    return content.getvalue()


def _session(file: bytes, images: np.ndarray) -> Callable[[], np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = THREADS, 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    inputs = {session.get_inputs()[0].name: images}
    return functools.partial(_run, session, inputs)


def _run(session: Any, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    return session.run(None, inputs)[0]


def main() -> None:
    """Measures all networks and writes the numbers."""
    console.show()
    check_torch_libraries()
    conditions, measured = measurement_conditions(None), []
    for network in NETWORKS:
        measured.append(measure(network))
        batches = measured[-1]["batches"].items()
        ratios = (f"{found['ratio']:.2f} in batches of {batch}" for batch, found in batches)
        console.log("measured", f"{network}: our images per second over PyTorch's: {', '.join(ratios)}")
    numbers = {
        "machine": xla.hardware(),
        "versions": environment.versions() | {name: importlib.metadata.version(name) for name in LIBRARIES},
        "conditions": conditions,
        "about": f"{IMAGE_SIZE} px, {THREADS} threads, medians of {ROUNDS} rounds of {SECONDS:g} s by turns",
        "rows": measured,
    }
    atomic_write(NUMBERS, json.dumps(numbers, indent=1) + "\n")
    console.log("saved", str(NUMBERS))


if __name__ == "__main__":
    main()
