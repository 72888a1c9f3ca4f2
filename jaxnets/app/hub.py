"""Weights by their name on a hub, through huggingface_hub."""

import importlib.util
import json
from pathlib import Path
from typing import Any

from jaxnets.errors import CheckpointError, ConfigError

PREFIX = "hub:"
FILES = ("model.safetensors", "model.weights.h5")
"""What is looked for, in this order. A pickle is not fetched."""


def download(source: str) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """The file of hub:OWNER/NAME[@REVISION], the hub's config.json or {}, and whence it is.

    Raises ConfigError without huggingface_hub, CheckpointError where there is no such file or no network.
    """
    if importlib.util.find_spec("huggingface_hub") is None:
        raise ConfigError(f"{source} needs huggingface_hub: pip install 'jaxnets[hub]'")
    import huggingface_hub
    from huggingface_hub import errors

    name, _, revision = source.removeprefix(PREFIX).partition("@")
    try:
        there = huggingface_hub.list_repo_files(name, revision=revision or None)
        file = next((file for file in FILES if file in there), None)
        if file is None:
            raise CheckpointError(f"{source} has none of {', '.join(FILES)}")
        path = huggingface_hub.hf_hub_download(name, file, revision=revision or None)
        described = {}
        if "config.json" in there:
            config = huggingface_hub.hf_hub_download(name, "config.json", revision=revision or None)
            described = json.loads(Path(config).read_text())
    except (errors.HfHubHTTPError, errors.HFValidationError, OSError, ValueError) as error:
        told = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{source} could not be fetched: {told}") from error
    return Path(path), described, {"hub": name, "revision": revision or None, "file": file}
