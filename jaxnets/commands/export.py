"""Export a trained network to a folder that can be loaded without this package."""

import dataclasses
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
from jaxnets.data import sources
from jaxnets.errors import CheckpointError, ConfigError
from jaxnets.evaluation import result as results
from jaxnets.experiment import restore, workdir
from jaxnets.experiment.run_directory import read_result
from jaxnets.interop import foreign, imagenet
from jaxnets.interop.convert import check_published_form, to_layout
from jaxnets.interop.layouts import EXPORTABLE
from jaxnets.interop.weights import Preprocessing, Weights, flatten, unflatten, write_weights
from jaxnets.io import atomic_write, require_folder
from jaxnets.runtime import console, xla
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
    xla.check_not_forked()
    if out is None and imagenet.is_name(str(directory)):
        raise ConfigError(f"--out=DIR is missing: the folder for the export of {directory}")
    out = out or directory / "export"
    if layout is not None and layout not in EXPORTABLE:
        raise ConfigError(f"--layout={layout} must be one of {', '.join(EXPORTABLE)}")
    if out.exists() and not (out / PROGRAM).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} is not empty and not an export: choose another --out")
    weights = restore.read_weights_or_run(directory, ignore_damage=ignore_damage)
    console.warn(*weights.source.get("warnings", ()))
    given = weights.preprocessing
    if weights.missing or given is None:
        missing = weights.missing[0] if weights.missing else "its preprocessing"
        raise CheckpointError(f"{directory} lacks {missing} and cannot be exported")
    is_run = (directory / workdir.CONFIG).is_file()
    result = read_result(directory, ignore_damage=ignore_damage) if is_run else None
    library_file = _library_file(layout, weights, given) if layout else None
    with console.phase("export") as phase:
        compiled = program(weights, given)
        phase.text = f"any batch size, for {' and '.join(PLATFORMS)}"
    require_folder(out)
    atomic_write(out / PROGRAM, bytes(compiled.serialize()))  # first: it marks the folder as an export
    write_weights(out, weights)
    for name in EXPORTABLE:  # from an earlier export
        (out / f"{name}.safetensors").unlink(missing_ok=True)
    if library_file is not None:
        atomic_write(out / f"{layout}.safetensors", library_file)
    atomic_write(out / CARD, model_card(weights, given, result))
    console.log("saved", str(out))
    return out


def _library_file(layout: str, weights: Weights, given: Preprocessing) -> bytes:
    """Safetensors of the arrays under the library's names and for its channel order, with metadata."""
    check_published_form(layout, weights.model)
    bgr = foreign.is_bgr(layout, weights)
    if bgr:
        arrays, _ = foreign.channels_reversed(flatten(weights.variables))
        weights = dataclasses.replace(weights, variables=unflatten(arrays))
    return safetensors.numpy.save(to_layout(layout, weights), foreign.to_metadata(given, bgr=bgr))


def program(weights: Weights, given: Preprocessing) -> jax_export.Exported:
    """Exports (arrays of weights.safetensors, images uint8[B, H, W, C]) -> logits [B, K], for any B.

    The program scales and normalises the images itself. It uses only XLA's own operations.
    """
    (batch,) = jax_export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *weights.input_shape), np.uint8)
    flat = flatten(weights.variables)
    arrays = {path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for path, leaf in flat.items()}
    # Without custom calls: the program must run without this package.
    network = models.create(config_dict.ConfigDict({**weights.model, "implementation": "xla"}))

    def logits(arrays: dict[str, Any], images: jax.Array) -> Any:
        inputs = normalize(scale(images, jnp.dtype(weights.model.dtype)), given.mean, given.std)
        variables = models.fold_batch_norm(network, unflatten(arrays), inputs)
        return network.apply(variables, inputs, train=False)

    with xla.precision_of(weights.model):
        return jax_export.export(jax.jit(logits), platforms=PLATFORMS)(arrays, images)


def model_card(weights: Weights, given: Preprocessing, result: results.Result | None) -> str:
    """The card in Markdown; `result` is the run's, None for imported weights or an unfinished run."""
    options = {"trim_blocks": True, "lstrip_blocks": True, "keep_trailing_newline": True}
    environment = jinja2.Environment(loader=jinja2.PackageLoader("jaxnets.commands"), **options)
    params, source = weights.variables["params"], weights.source
    in_heads = models.count_parameters(models.auxiliary_part(params))
    origin = [f"{key} {source[key]}" for key in ("file", "hub", "layout", "sha256") if source.get(key)]
    trained: dict[str, str] = {}
    if result is not None:
        network = results.format_network(result, models.entry(result["model"]).title)
        trained = {"network": network, "split": results.format_split(result)}
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
        disclaimer=sources.disclaimer(source.get("data")),
        result=result,
        **trained,
    )
