"""Drift between jaxnets and PyTorch: they agree in each step, but rounding accumulates over free runs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from ml_collections import config_dict

from benchmarks.jax_model import build, make_config, random_batch
from benchmarks.oracles import load
from benchmarks.schema import Drift, DriftStep
from jaxnets.io import atomic_replace

LOSS, PARAMETERS = "loss", "all parameters"
"""Keys of `compare_steps` besides the tensors."""
FIGURE = Path("docs") / "drift.png"
STEPS = 10


def compare_steps(
    config: config_dict.ConfigDict, *, steps: int, restart: bool, variables: dict[str, Any] | None = None
) -> Iterator[dict[str, float]]:
    """Yields the differences between jaxnets and PyTorch after each training step on random batches.

    These are relative L2 differences of each tensor (by its PyTorch name), of all parameters as one vector,
    and of the loss. Both start from the same state; with `restart` PyTorch gets the state of jaxnets
    (parameters, statistics, optimizer buffers) before every step. float64 requires `jax.enable_x64`.
    """
    ours = build(config, variables)
    theirs = load("mirror").Mirror(config)
    step, state = jax.jit(ours.train_step), ours.state
    for number in range(steps):
        if restart or number == 0:
            theirs.copy(state)
        batch = random_batch(config, seed=number)
        state, metrics = step(state, batch)
        our_loss = float(metrics["loss"] / metrics["weight_sum"])
        their_loss = theirs.step(batch)
        yield {
            LOSS: abs(our_loss - their_loss) / abs(their_loss),
            PARAMETERS: theirs.distance_of_parameters(state.params),
            **theirs.distances(state.variables()),
        }


def drift_config() -> config_dict.ConfigDict:
    """ResNet-50 in float64 at a small size and a high learning rate, where rounding errors grow fastest."""
    config = make_config("resnet50", image_size=32, batch_size=8)
    config.model.dtype = "float64"
    config.optimizer.learning_rate = 0.1
    return config


def measure(config: config_dict.ConfigDict | None = None, *, steps: int = STEPS) -> Drift:
    """Measures the drift with restarts from the same state, and of free runs."""
    config = config or drift_config()
    about = (
        f"{config.model.name}, float64, {config.data.image_size} px, batch "
        f"{config.train.batch_size}, SGD {config.optimizer.learning_rate:g} with momentum "
        f"{config.optimizer.momentum:g}, batches of noise: |ours - PyTorch's| / |PyTorch's|"
    )
    with jax.enable_x64(True):
        return {
            "about": about,
            "restarted": _measure_steps(config, steps=steps, restart=True),
            "free": _measure_steps(config, steps=steps, restart=False),
        }


def _measure_steps(config: config_dict.ConfigDict, *, steps: int, restart: bool) -> list[DriftStep]:
    return [
        {
            "step": number,
            "parameters": distances.pop(PARAMETERS),
            "loss": distances.pop(LOSS),
            "largest": max(distances.values()),
        }
        for number, distances in enumerate(compare_steps(config, steps=steps, restart=restart), 1)
    ]


def draw(found: Drift, path: Path) -> None:
    """Plots the drift; the file is written atomically."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    series = {
        "each from its own state": found["free"],
        "both from the same state, every step": found["restarted"],
    }
    for label, entries in series.items():
        steps = [entry["step"] for entry in entries]
        axes.semilogy(steps, [entry["parameters"] for entry in entries], "o-", label=label)
    axes.set(xlabel="training step", ylabel="relative difference of all parameters")
    axes.set_title(found["about"].split(":")[0], fontsize=8)
    axes.grid(alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_replace(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], dpi=110)


def format_drift(found: Drift) -> str:
    """Formats the largest difference of a single step and the final difference of the free run."""
    restarted = max(entry["largest"] for entry in found["restarted"])
    last = found["free"][-1]
    return (
        f"from the same state at most {restarted:.1e} in any tensor; "
        f"running free {last['parameters']:.1e} of all parameters after {last['step']} steps"
    )
