"""A folder with a network that timm loads: model.safetensors, and config.json, which describes it.

timm.create_model("local-dir:FOLDER", pretrained=True) reads it, and "hf-hub:OWNER/NAME" after an upload.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from jaxnets import models
from jaxnets.config.loading import ON_HUB
from jaxnets.errors import CheckpointError
from jaxnets.interop.convert import check_published_form, to_layout
from jaxnets.interop.foreign import CLASSIFIER, METADATA_KEY, OUR_CROP, first_convolution, to_metadata
from jaxnets.interop.layouts import LAYOUTS
from jaxnets.interop.weight_files import PRETRAINED
from jaxnets.interop.weights import Preprocessing, Weights, flatten, unflatten

LAYOUT, ARRAYS, CONFIG = "timm", "model.safetensors", "config.json"
ARCHITECTURES = {
    **{name: source.partition("/")[2].partition(".")[0] for name, source in ON_HUB.items()},
    "inception_resnet_v2": "inception_resnet_v2",
}
"""timm's names of our networks; those of weights on the hub begin with them."""
OF_VARIANT: dict[tuple[str, str | None], str] = {("efficientnet_b0", "keras"): "tf_efficientnet_b0"}
CLASSIFIERS = {"vgg16": "head.fc", "vgg16_bn": "head.fc"}
"""timm's own names where it also reads torchvision's, which the file has."""
CROP_MODES = {"crop": "center", "stretch": "squash"}
"""timm's names of the values of data.resize."""


def timm_files(weights: Weights, given: Preprocessing) -> dict[str, bytes]:
    """The files of the folder by name; auxiliary heads, which timm does not build, are left out.

    Raises CheckpointError if timm does not have this network, or has another form of it.
    """
    name = weights.model.name
    if name not in ARCHITECTURES:
        raise CheckpointError(f"timm does not have {name}: it has {', '.join(ARCHITECTURES)}")
    check_published_form(LAYOUT, weights.model)
    layout = LAYOUT if name in LAYOUTS[LAYOUT].networks else "torch"  # timm's names are torchvision's
    variables = {
        kind: {module: part for module, part in tree.items() if module not in models.auxiliary_part(tree)}
        for kind, tree in weights.variables.items()
    }
    ours = {path: np.asarray(leaf, np.float32) for path, leaf in flatten(variables).items()}
    arrays = to_layout(layout, dataclasses.replace(weights, variables=unflatten(ours)))
    channels = weights.input_shape[-1]
    first = first_convolution(ours, channels)
    form = LAYOUTS[layout]
    config: dict[str, Any] = {
        "architecture": OF_VARIANT.get((name, models.variant_of(weights.model)), ARCHITECTURES[name]),
        "num_classes": weights.model.num_classes,
    }
    if weights.classes is not None:
        config["label_names"] = weights.classes
    if weights.temperature is not None:
        config["temperature"] = weights.temperature
    config[PRETRAINED] = {
        "input_size": [channels, given.image_size, given.image_size],
        "fixed_input_size": False,
        "pool_size": None,
        **OUR_CROP,
        "crop_pct": given.crop,
        "crop_mode": CROP_MODES[given.resize],
        "mean": given.mean,
        "std": given.std,
        "num_classes": weights.model.num_classes,
        "first_conv": form.module_name(name, first.removeprefix("params/").removesuffix("/kernel")),
        "classifier": CLASSIFIERS.get(name) or form.module_name(name, CLASSIFIER.removesuffix("/kernel")),
    }
    # Programs of the hub expect the format.
    metadata = {"format": "pt", **to_metadata(given, bgr=False)}
    return {
        ARRAYS: safetensors.numpy.save(arrays, metadata),
        CONFIG: (json.dumps(config, indent=2) + "\n").encode(),
    }


def is_timm_folder(folder: Path) -> bool:
    """Whether the files of `timm_files` were written to a folder; another program's are not recognised."""
    try:
        with safetensors.safe_open(folder / ARRAYS, framework="numpy") as file:
            return METADATA_KEY in (file.metadata() or {})
    except (OSError, safetensors.SafetensorError):
        return False
