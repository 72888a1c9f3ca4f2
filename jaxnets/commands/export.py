"""Export a trained network to a folder that can be loaded without this package."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from jax import export as jax_export
from ml_collections import config_dict

from jaxnets import models, ops
from jaxnets.commands import model_card, web
from jaxnets.commands.model_card import ModelCard
from jaxnets.errors import CheckpointError, ConfigError
from jaxnets.evaluation import gradcam
from jaxnets.experiment import restore, workdir
from jaxnets.experiment.run_directory import read_result
from jaxnets.interop import foreign, imagenet, onnx, timm_folder
from jaxnets.interop.convert import check_published_form, to_layout
from jaxnets.interop.layouts import EXPORTABLE
from jaxnets.interop.weights import (
    ARRAYS,
    DESCRIPTION,
    Preprocessing,
    Weights,
    flatten,
    unflatten,
    write_weights,
)
from jaxnets.io import atomic_write, require_folder
from jaxnets.models.base import Network
from jaxnets.runtime import console, xla
from jaxnets.training.preprocess import normalize, scale

STABLEHLO, ONNX, WEB, TIMM = "stablehlo", "onnx", "web", timm_folder.LAYOUT
PROGRAMS = {STABLEHLO: "program.stablehlo", ONNX: web.MODEL, WEB: web.MODEL}
"""The file of each format with a program."""
LIBRARY_FILES = tuple(f"{name}.safetensors" for name in EXPORTABLE if name != TIMM)
CARD = "README.md"
PLATFORMS = ("cpu", "cuda")
IMAGES, PROBABILITIES, LOGITS, MAPS = "images", "probabilities", "logits", "maps"
"""Names of an ONNX graph's input and outputs."""


def export(
    directory: Path,
    out: Path | None,
    *,
    file_format: str = STABLEHLO,
    raw: bool = False,
    layout: str | None = None,
    ignore_damage: bool = False,
) -> Path:
    """Writes the program of a run or weights folder, and its model card, to a new folder; returns the folder.

    Args:
        directory: a run directory, a weights folder or imagenet:NETWORK.
        out: the folder; None for `directory`/export.
        file_format: "stablehlo", a program of JAX beside weights.safetensors; "onnx", one file with both; or
            "web", a page that runs this file in a browser.
        raw: an ONNX graph takes images that are scaled and normalised, and returns logits.
        layout: "stablehlo" only: LAYOUT.safetensors is added, with another library's names. With "timm" the
            folder is instead one that timm loads, and that can be uploaded to the Hugging Face hub.
        ignore_damage: files that do not match their checksum only cause warnings.

    Raises:
        ConfigError: `out` contains other files, or options do not fit.
        CheckpointError: the weights are incomplete, or the library's network differs.
    """
    xla.check_not_forked()
    if out is None and imagenet.is_name(str(directory)):
        raise ConfigError(f"--out=DIR is missing: the folder for the export of {directory}")
    out = out or directory / "export"
    _check_options(file_format, layout, raw=raw)
    earlier = _files_of_export(out)
    if out.exists() and not earlier and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} is not empty and not an export: choose another --out")
    weights = restore.read_weights_or_run(directory, ignore_damage=ignore_damage)
    console.warn(*weights.source.get("warnings", ()))
    given = weights.preprocessing
    if weights.missing or given is None:
        if weights.missing:
            raise CheckpointError(f"{directory} lacks {weights.missing[0]} and cannot be exported")
        raise CheckpointError(
            f"{directory} lacks its preprocessing and cannot be exported: import it with --preprocessing"
        )
    is_run = (directory / workdir.CONFIG).is_file()
    result = read_result(directory, ignore_damage=ignore_damage) if is_run else None
    kind = TIMM if layout == TIMM else file_format
    card = model_card.describe(weights, given, result, has_logits=raw or kind in (STABLEHLO, TIMM))
    with console.phase("export") as phase:
        if kind == STABLEHLO:
            files = _stablehlo_files(weights, given, layout)
            phase.text = f"any batch size, for {' and '.join(PLATFORMS)}"
        elif kind == TIMM:
            files = timm_folder.timm_files(weights, given)
            phase.text = f"for timm, {len(files[timm_folder.ARRAYS]) / 1e6:.1f} MB"
        else:
            files = _web_files(card) if kind == WEB else {web.MODEL: onnx_program(card, raw=raw)}
            phase.text = f"any batch size, {len(files[web.MODEL]) / 1e6:.1f} MB"
    require_folder(out)
    for name, content in files.items():  # the program or the arrays are first: they mark an export
        atomic_write(out / name, content)
    if kind == STABLEHLO:
        write_weights(out, weights)
        earlier -= {ARRAYS, DESCRIPTION}
    for name in earlier - files.keys():
        (out / name).unlink(missing_ok=True)
    atomic_write(out / CARD, model_card.to_markdown(card, loading=kind, raw=raw))
    if kind == WEB:
        is_embedded = files.keys().isdisjoint(web.FILES.values())
        how = "opens in a browser" if is_embedded else "needs a server: python -m http.server in its folder"
        console.log("page", f"{out / web.PAGE} {how}")
    console.log("saved", str(out))
    return out


def _files_of_export(folder: Path) -> set[str]:
    """The files that an earlier export may have written to a folder; none if it is not an export."""
    found: set[str] = set()
    if any((folder / name).is_file() for name in PROGRAMS.values()):
        found = {*PROGRAMS.values(), *LIBRARY_FILES, web.PAGE, *web.FILES.values()}
    if (folder / PROGRAMS[STABLEHLO]).is_file():
        found |= {ARRAYS, DESCRIPTION}
    if timm_folder.is_timm_folder(folder):
        found |= {timm_folder.ARRAYS, timm_folder.CONFIG}
    return found


def _check_options(file_format: str, layout: str | None, *, raw: bool) -> None:
    if layout is not None and layout not in EXPORTABLE:
        raise ConfigError(f"--layout={layout} must be one of {', '.join(EXPORTABLE)}")
    if layout is not None and file_format != STABLEHLO:
        raise ConfigError(f"--layout={layout} is for --format={STABLEHLO}: leave one of both out")
    if raw and file_format != ONNX:
        raise ConfigError(f"--raw is for --format={ONNX}")


def _stablehlo_files(weights: Weights, given: Preprocessing, layout: str | None) -> dict[str, bytes]:
    library_files = {f"{layout}.safetensors": _library_file(layout, weights, given)} if layout else {}
    return {PROGRAMS[STABLEHLO]: bytes(program(weights, given).serialize()), **library_files}


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


def onnx_program(card: ModelCard, *, raw: bool = False, with_maps: bool = False) -> bytes:
    """Exports images uint8[B, H, W, C] -> calibrated probabilities [B, K], for any B, as a file of ONNX.

    Batch normalisations are folded into the convolutions. With `raw`, the images are float32[B, H, W, C],
    scaled and normalised, and the output is logits. `with_maps` adds class activation maps [B, h, w, K] of a
    network whose head is a global average and one dense layer: their positive parts are Grad-CAM's, up to a
    factor.
    """
    weights, given = card.weights, card.preprocessing
    model = config_dict.ConfigDict({**weights.model, "implementation": "xla", "dtype": "float32"})
    network = models.create(config_dict.ConfigDict({**model, "compute_dtype": None}))
    shape = weights.input_shape

    def outputs(images: jax.Array) -> tuple[Any, ...]:
        if raw:
            return (network.apply(variables, images, train=False),)
        inputs = normalize(scale(images, jnp.float32), given.mean, given.std)
        if not with_maps:
            logits: Any = network.apply(variables, inputs, train=False)
            return (probabilities(logits),)
        features: Any = network.apply(variables, inputs, train=False, method="features")
        classifier = variables["params"]["classifier"]
        maps = ops.convolution(features, classifier["kernel"][None, None], implementation="xla")
        return probabilities(maps.mean((1, 2)) + classifier["bias"][None]), maps

    def probabilities(logits: jax.Array) -> jax.Array:
        return jax.nn.softmax(logits / (weights.temperature or 1.0))

    variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), weights.variables)
    variables = xla.jit(functools.partial(models.fold_batch_norm, network))(variables, jnp.zeros((1, *shape)))
    return onnx.to_onnx(
        outputs,
        jax.ShapeDtypeStruct(shape, np.float32 if raw else np.uint8),
        input_name=IMAGES,
        output_names=[LOGITS if raw else PROBABILITIES, *([MAPS] if with_maps else [])],
        metadata=model_card.to_metadata(card),
    )


def _why_no_map(weights: Weights) -> str:
    """Why the network has no class activation maps, or ""; they need a head of a mean and a dense layer."""
    network = models.create(weights.model)
    if type(network).head is not Network.head:  # type: ignore[attr-defined]
        return "This network has no heat map: its head is not a global average and one dense layer."
    image = jax.ShapeDtypeStruct((1, *weights.input_shape), np.dtype(weights.model.dtype))
    apply = functools.partial(network.apply, train=False, method="features")
    with xla.precision_of(weights.model):
        height, width = jax.eval_shape(apply, weights.variables, image).shape[1:3]  # type: ignore[attr-defined]
    if min(height, width) < gradcam.MIN_SIDE:
        return f"There is no heat map: the last feature map is only {height}x{width}."
    return ""


def _web_files(card: ModelCard) -> dict[str, bytes]:
    runtime, no_map = web.runtime_files(), _why_no_map(card.weights)
    return web.page_files(onnx_program(card, with_maps=not no_map), runtime, card, no_map=no_map)
