"""How two implementations that agree in every step drift apart when each continues from its own state."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from ml_collections import config_dict

from benchmarks.jax_model import build, make_config, random_batch
from benchmarks.oracles import load
from jaxnets.io import atomic_replace

LOSS, PARAMETERS = "loss", "all parameters"
"""What `compare_steps` names beside the tensors."""
RESTARTED, FREE = "restarted", "free"
FIGURE = Path("docs") / "drift.png"
STEPS = 10


def compare_steps(
    config: config_dict.ConfigDict,
    *,
    steps: int,
    restart: bool,
    variables: dict[str, Any] | None = None,
) -> Iterator[dict[str, float]]:
    """After each training step of ours and PyTorch's, on batches of noise: how far they are apart.

    Both begin in the same state; with `restart` PyTorch takes over ours (parameters, statistics and
    optimizer buffers) before every step. Yields relative L2 differences by PyTorch's names of the
    tensors, of all parameters as one vector, and of the loss. For float64, JAX's x64 is to be on.
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
    """ResNet-50 in float64 at a small size and a high learning rate, where rounding grows fastest."""
    config = make_config("resnet50", image_size=32, batch_size=8)
    config.model.dtype = "float64"
    config.optimizer.learning_rate = 0.1
    return config


def measure(config: config_dict.ConfigDict | None = None, *, steps: int = STEPS) -> dict[str, Any]:
    """Ten steps restarted from the same state, and ten running free.

    {"about": ..., "restarted": [...], "free": [...]}, each a list by step of the relative difference
    of all parameters and of the loss.
    """
    config = config or drift_config()
    found: dict[str, Any] = {
        "about": (
            f"{config.model.name}, float64, {config.data.image_size} px, batch "
            f"{config.train.batch_size}, SGD {config.optimizer.learning_rate:g} with momentum "
            f"{config.optimizer.momentum:g}, batches of noise: |ours - PyTorch's| / |PyTorch's|"
        )
    }
    with jax.enable_x64(True):
        for name in (RESTARTED, FREE):
            runs = compare_steps(config, steps=steps, restart=name == RESTARTED)
            found[name] = [
                {
                    "step": number,
                    "parameters": distances.pop(PARAMETERS),
                    "loss": distances.pop(LOSS),
                    "largest": max(distances.values()),
                }
                for number, distances in enumerate(runs, 1)
            ]
    return found


def draw(found: dict[str, Any], path: Path) -> None:
    """Plots what `measure` found; the file is written whole or not at all."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    labels = {FREE: "each from its own state", RESTARTED: "both from the same state, every step"}
    for name, label in labels.items():
        steps = [entry["step"] for entry in found[name]]
        axes.semilogy(steps, [entry["parameters"] for entry in found[name]], "o-", label=label)
    axes.set(xlabel="training step", ylabel="relative difference of all parameters")
    axes.set_title(found["about"].split(":")[0], fontsize=8)
    axes.grid(alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_replace(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], dpi=110)


def as_text(found: dict[str, Any]) -> str:
    """The largest difference of a single step, and where ten free ones end."""
    restarted = max(entry["largest"] for entry in found[RESTARTED])
    last = found[FREE][-1]
    return (
        f"from the same state at most {restarted:.1e} in any tensor; "
        f"running free {last['parameters']:.1e} of all parameters after {last['step']} steps"
    )
