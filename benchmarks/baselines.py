"""What the training step and the inference of a network are compared with.

All baselines get the same number of threads. This module must not import JAX, like torch_workloads.py.
"""

import functools
import importlib.util
import os
import shutil
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks import inference_engines, torch_workloads
from benchmarks.worker import MakeWorkload
from jaxnets.errors import ConfigError, suggest
from jaxnets.runtime import console

PYTORCH = "PyTorch"
"""Begins the names of baselines in PyTorch's eager mode."""
TUNED_ALLOCATOR = ", our allocator setting"
"""Suffix of a baseline in eager mode that keeps its freed memory, as jaxnets does."""
COMPILED, ONNX_RUNTIME, OPENVINO = "torch.compile", "ONNX Runtime", "OpenVINO"
KINDS = ("eager", "compile", "onnxruntime", "openvino")
"""Values of --baselines."""
ENGINES = {"onnxruntime": ONNX_RUNTIME, "openvino": OPENVINO}
LAYOUTS = ("contiguous", "channels_last")
"""PyTorch's memory layouts."""


class Baseline(NamedTuple):
    """Creates a workload from the shared data; `keep_memory` keeps freed memory, as jaxnets does."""

    make: MakeWorkload
    keep_memory: bool


def with_both_allocators(workloads: Mapping[str, MakeWorkload]) -> dict[str, Baseline]:
    """Returns the baselines as installed, then with our allocator setting."""
    return {
        name + suffix: Baseline(make, keep_memory)
        for suffix, keep_memory in (("", False), (TUNED_ALLOCATOR, True))
        for name, make in workloads.items()
    }


def of_network(kinds: Sequence[str], *, trains: bool, bfloat16: bool, threads: int) -> dict[str, Baseline]:
    """Returns the baselines of a network by name.

    Only eager mode is measured in both memory layouts and with both allocator settings, because compilation
    takes up to a minute. ONNX Runtime has no bfloat16 convolution on CPUs.
    """
    workload = torch_workloads.TrainingWorkload if trains else torch_workloads.InferenceWorkload
    options: dict[str, Any] = {"threads": threads, "bfloat16": bfloat16}
    found: dict[str, Baseline] = {}
    if "eager" in kinds:
        layouts = {
            f"{PYTORCH}, {layout}": functools.partial(
                workload, channels_last=layout == "channels_last", **options
            )
            for layout in LAYOUTS
        }
        found |= with_both_allocators(layouts)
    if "compile" in kinds:
        make = functools.partial(workload, channels_last=True, compiler="inductor", **options)
        found[COMPILED] = Baseline(make, keep_memory=True)
    for kind, name in ENGINES.items():
        if kind in kinds and not trains and (kind == "openvino" or not bfloat16):
            make = functools.partial(inference_engines.EngineWorkload, engine=kind, **options)
            found[name] = Baseline(make, keep_memory=False)
    return found


def check_kinds(kinds: Sequence[str]) -> None:
    """Raises ConfigError for a value that --baselines does not have."""
    for kind in kinds:
        if kind not in KINDS:
            raise ConfigError(f"--baselines={kind}: choose from {', '.join(KINDS)}{suggest(kind, KINDS)}")


def available(kinds: Sequence[str]) -> tuple[str, ...]:
    """Returns the baselines that this computer can run, and logs the others; PyTorch is installed."""
    missing = {}
    compiler = os.environ.get("CXX", "g++")  # torch.compile's choice on Linux
    if shutil.which(compiler) is None:
        missing["compile"] = f"no C++ compiler {compiler}"
    for kind in ENGINES:
        packages = [name for name in (kind, "onnx") if importlib.util.find_spec(name) is None]
        if packages:
            missing[kind] = f"{' and '.join(packages)} not installed (pip install -e '.[bench]')"
    for kind in kinds:
        if kind in missing:
            console.log("baselines", f"without {kind}: {missing[kind]}")
    return tuple(kind for kind in kinds if kind not in missing)
