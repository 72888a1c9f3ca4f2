"""Export a trained network to a folder that can be loaded without this package."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jinja2
import numpy as np
import safetensors.numpy
from jax import export as jax_export
from ml_collections import config_dict

from jaxnets import models
from jaxnets.errors import CheckpointError, ConfigError
from jaxnets.evaluation import result as results
from jaxnets.evaluation.result import Result
from jaxnets.experiment import restore, run_files
from jaxnets.experiment.run_directory import read_result
from jaxnets.interop import preprocessing
from jaxnets.interop.convert import check_published_form, to_layout
from jaxnets.interop.layouts import EXPORTABLE
from jaxnets.interop.weights import Preprocessing, Weights, flatten, unflatten, write_weights
from jaxnets.io import atomic_write, require_folder
from jaxnets.runtime import xla
from jaxnets.runtime.console import Reporter
from jaxnets.runtime.xla import check_not_forked, precision_of
from jaxnets.training.preprocess import normalize, scale

PROGRAM, CARD = "program.stablehlo", "README.md"
PLATFORMS = ("cpu", "cuda")


def export(
    directory: Path, out: Path | None, *, layout: str | None = None, ignore_damage: bool = False
) -> Path:
    """Writes weights, StableHLO program and model card of a run or weights folder; returns the new folder.

    `layout` adds LAYOUT.safetensors with another library's names. Raises ConfigError if `out` contains other
    files, CheckpointError if the weights are incomplete or the library's network differs.
    """
    check_not_forked()
    reporter = Reporter()
    out = out or directory / "export"
    if layout is not None and layout not in EXPORTABLE:
        raise ConfigError(f"--layout={layout} must be one of {', '.join(EXPORTABLE)}")
    if out.exists() and not (out / PROGRAM).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} is not empty and not an export: choose another --out")
    weights = restore.read_weights_or_run(directory, ignore_damage=ignore_damage)
    for message in weights.source.get("warnings", ()):
        reporter.line("warning", message)
    given = weights.preprocessing
    if weights.missing or given is None:
        missing = weights.missing[0] if weights.missing else "its preprocessing"
        raise CheckpointError(f"{directory} lacks {missing} and cannot be exported")
    result = None
    if (directory / run_files.CONFIG).is_file():
        result = read_result(directory, ignore_damage=ignore_damage)
    library_file = _library_file(layout, weights) if layout else None
    with reporter.phase("export") as phase:
        compiled = program(weights, given)
        phase.text = f"any batch size, for {' and '.join(PLATFORMS)}"
    require_folder(out)
    atomic_write(out / PROGRAM, bytes(compiled.serialize()))  # first: it marks the folder as an export
    write_weights(out, weights)
    for name in EXPORTABLE:  # from an earlier export
        (out / f"{name}.safetensors").unlink(missing_ok=True)
    if library_file is not None:
        arrays, metadata = library_file
        atomic_write(out / f"{layout}.safetensors", safetensors.numpy.save(arrays, metadata))
    atomic_write(out / CARD, model_card(weights, given, result))
    reporter.line("saved", str(out))
    return out


def _library_file(layout: str, weights: Weights) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays under the library's names and for its channel order, and the file's metadata."""
    check_published_form(layout, weights.model)
    bgr = preprocessing.is_bgr(layout, weights)
    if bgr:
        arrays, _ = preprocessing.channels_reversed(flatten(weights.variables))
        weights = dataclasses.replace(weights, variables=unflatten(arrays))
    return to_layout(layout, weights), preprocessing.to_metadata(weights.preprocessing, bgr=bgr)


def program(weights: Weights, given: Preprocessing) -> jax_export.Exported:
    """Exports (arrays of weights.safetensors, images uint8[B, H, W, C]) -> logits [B, K], for any B.

    The program scales and normalises the images itself. It uses only XLA's own operations.
    """
    (batch,) = jax_export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *weights.input_shape), np.uint8)
    flat = flatten(weights.variables)
    arrays = {path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for path, leaf in flat.items()}
    function = jax.jit(_logits(weights, given))  # only traced here
    with precision_of(weights.model):
        return jax_export.export(function, platforms=PLATFORMS)(arrays, images)


def _logits(weights: Weights, given: Preprocessing) -> Callable[[dict[str, Any], jax.Array], jax.Array]:
    # Without custom calls: the program must run without this package.
    network = models.create(config_dict.ConfigDict({**weights.model, "implementation": "xla"}))
    dtype = jnp.dtype(weights.model.dtype)

    def logits(arrays: dict[str, Any], images: jax.Array) -> jax.Array:
        inputs = normalize(scale(images, dtype), given.mean, given.std)
        outputs: Any = network.apply(unflatten(arrays), inputs, train=False)
        return outputs

    return logits


def model_card(weights: Weights, given: Preprocessing, result: Result | None) -> str:
    """The card in Markdown; `result` is the run's, None for imported weights or an unfinished run."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("jaxnets.commands"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["percent"] = _percent
    params, source = weights.variables["params"], weights.source
    in_heads = models.count_parameters(models.auxiliary_part(params))
    origin = [f"{key} {source[key]}" for key in ("file", "hub", "layout", "sha256") if source.get(key)]
    trained: dict[str, str] = {}
    if result is not None:
        title = models.entry(result["model"]).title
        trained = {
            "network": results.format_network(result, title),
            "split": results.format_split(result),
        }
    return environment.get_template("model_card.md").render(
        title=models.entry(weights.model.name).title,
        model=weights.model,
        shape=weights.input_shape,
        classes=weights.classes or range(weights.model.num_classes),
        given=given,
        source=source,
        origin=", ".join(origin),
        parameters=models.count_parameters(params) - in_heads,
        in_heads=in_heads,
        safe_flag=xla.SAFE_FLAG,
        result=result,
        **trained,
    )


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{100 * value:.2f} %"
