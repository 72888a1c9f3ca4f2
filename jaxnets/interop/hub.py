"""Downloads weights from the Hugging Face hub."""

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
"""The files to look for, in this order; pickles are never downloaded."""
PRETRAINED = "pretrained_cfg"
"""The field of config.json in which timm describes the preprocessing."""


def download(
    source: str, log: Callable[[str], None] = lambda text: None
) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """Downloads hub:OWNER/NAME[@REVISION]; returns the file, config.json or {}, and its origin.

    `log` is called with a line of text before the hub is contacted. Raises ConfigError if huggingface_hub
    is not installed, CheckpointError if the file is missing or the network fails.
    """
    if importlib.util.find_spec("huggingface_hub") is None:
        raise ConfigError(f"{source} needs huggingface_hub: pip install -e '.[hub]'")
    import huggingface_hub

    # The error below reports failed retries. The package resets its root logger's level on first use.
    logging.getLogger("huggingface_hub.utils._http").setLevel(logging.ERROR)
    name, _, revision = source.removeprefix(PREFIX).partition("@")
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    timeout = os.environ.get("HF_HUB_DOWNLOAD_TIMEOUT", "10")
    log(f"{endpoint}/{name} (given up after {timeout} s of silence)")
    try:
        available = huggingface_hub.list_repo_files(name, revision=revision or None)
        file = next((file for file in FILES if file in available), None)
        wanted = [each for each in (file, "config.json") if file and each in available]
        paths = {
            each: Path(huggingface_hub.hf_hub_download(name, each, revision=revision or None))
            for each in wanted
        }
    except Exception as error:  # the exception classes depend on huggingface_hub's version
        message = " ".join(str(error).split())[:200] or type(error).__name__
        raise CheckpointError(
            f"{source} could not be downloaded ({message}): check the name and the network, "
            "or download the file elsewhere and pass its path"
        ) from error
    if file is None:
        raise CheckpointError(f"{source} has none of {', '.join(FILES)}: use another name")
    hub_config: Any = {}
    if "config.json" in paths:
        try:
            hub_config = json.loads(paths["config.json"].read_text())
        except ValueError as error:
            raise CheckpointError(f"{source}: its config.json is not valid JSON ({error})") from error
    if not isinstance(hub_config, dict) or not isinstance(hub_config.get(PRETRAINED, {}), dict):
        raise CheckpointError(
            f"{source}: its config.json does not describe a network: download the file and pass its path"
        )
    return paths[file], hub_config, {"hub": name, "revision": revision or None, "file": file}
