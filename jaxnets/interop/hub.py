"""Weights by their name on a hub, through huggingface_hub."""

import importlib.util
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxnets.errors import CheckpointError, ConfigError

PREFIX = "hub:"
FILES = ("model.safetensors", "model.weights.h5")
"""What is looked for, in this order. A pickle is not fetched."""
PRETRAINED = "pretrained_cfg"
"""Of config.json: what timm says of pixels."""


def download(
    source: str, say: Callable[[str], None] = lambda text: None
) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """The file of hub:OWNER/NAME[@REVISION], the hub's config.json or {}, and whence it is.

    `say` is given a line for a person before the hub is asked.

    Raises ConfigError without huggingface_hub, CheckpointError where there is no such file or no network.
    """
    if importlib.util.find_spec("huggingface_hub") is None:
        raise ConfigError(f"{source} needs huggingface_hub: pip install -e '.[hub]'")
    import huggingface_hub

    # Of retries the end is told below. The package sets its own root's level when it is first used.
    logging.getLogger("huggingface_hub.utils._http").setLevel(logging.ERROR)
    name, _, revision = source.removeprefix(PREFIX).partition("@")
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    timeout = os.environ.get("HF_HUB_DOWNLOAD_TIMEOUT", "10")
    say(f"{endpoint}/{name} (given up after {timeout} s of silence)")
    try:
        there = huggingface_hub.list_repo_files(name, revision=revision or None)
        file = next((file for file in FILES if file in there), None)
        wanted = [each for each in (file, "config.json") if file and each in there]
        paths = {
            each: Path(huggingface_hub.hf_hub_download(name, each, revision=revision or None))
            for each in wanted
        }
    except Exception as error:  # the transport's own classes change with huggingface_hub's version
        message = " ".join(str(error).split())[:200] or type(error).__name__
        raise CheckpointError(
            f"{source} could not be fetched ({message}): mend the name or the network, "
            "or fetch the file elsewhere and give its path"
        ) from error
    if file is None:
        raise CheckpointError(f"{source} has none of {', '.join(FILES)}: give another name")
    described = _described(source, paths["config.json"]) if "config.json" in paths else {}
    return paths[file], described, {"hub": name, "revision": revision or None, "file": file}


def _described(source: str, path: Path) -> dict[str, Any]:
    """A hub's config.json; raises CheckpointError where it is not an object of the form we read."""
    try:
        described = json.loads(path.read_text())
    except ValueError as error:
        raise CheckpointError(f"{source}: its config.json is no JSON ({error})") from error
    if not isinstance(described, dict) or not isinstance(described.get(PRETRAINED, {}), dict):
        raise CheckpointError(
            f"{source}: its config.json describes no network: fetch the file and give its path"
        )
    return described
