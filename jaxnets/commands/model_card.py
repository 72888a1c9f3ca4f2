"""The model card of an exported network."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxnets import models
from jaxnets.evaluation import result as results
from jaxnets.interop.weights import Preprocessing, Weights
from jaxnets.runtime import xla

LOADING = """\
```python
import jax.export, numpy, safetensors.numpy
{precision}
program = jax.export.deserialize(open("program.stablehlo", "rb").read())
weights = safetensors.numpy.load_file("weights.safetensors")
images = numpy.zeros(({images}), numpy.uint8)  # any number of them
logits = program.call(weights, images)
```
"""
DOUBLE = 'jax.config.update("jax_enable_x64", True)  # the network uses float64\n'
LIMITS = (
    "Not a medical device; not validated on patients.",
    "The metrics apply to images of the same source and preparation; other laboratories, scanners "
    "and stains were not tested.",
    "It predicts one of its classes for any input; confidences are not calibrated.",
)


def write(weights: Weights, result: Mapping[str, Any] | None) -> str:
    """The card in Markdown; `result` is the run's result.json, or None."""
    entry = models.entry(weights.model.name)
    classes = weights.classes or tuple(map(str, range(weights.model.num_classes)))
    params = weights.variables["params"]
    in_heads = models.count_parameters(models.auxiliary_part(params))
    count = f"{models.count_parameters(params) - in_heads:,} parameters"
    heads = f" and {in_heads:,} in auxiliary heads, used only in training" if in_heads else ""
    shown = ", ".join(classes[:20]) + (", ..." if len(classes) > 20 else "")
    truncated = f" up to {weights.model.truncate_after}" if weights.model.truncate_after else ""
    title = entry.title if result is None else f"{entry.title}: {result['name']}"
    limits = (*weights.source.get("warnings", ()), *_own_limits(result), *LIMITS)
    sections = [
        f"# {title}",
        f"{entry.title}{truncated}, {count}{heads}. {len(classes)} classes, in this order: {shown}.",
        "## Loading",
        LOADING.format(
            images=", ".join(map(str, (8, *weights.input_shape))),
            precision=DOUBLE if weights.model.dtype == "float64" else "",
        ),
        f"On CPUs set `XLA_FLAGS={xla.SAFE_FLAG}` before JAX starts: from jaxlib 0.10.2 on, XLA's default "
        "computes wrong numbers in some programs. This program is not known to be affected.",
        _format_preprocessing(weights.preprocessing),
        "`weights.json` has the classes, the preprocessing and the network's fields; "
        "`jaxnets.load(FOLDER)` reads the folder.",
        "## Data and results",
        *(_results(result) if result else [f"Not trained by this package: {_source(weights.source)}."]),
        "## Limits",
        "\n".join(f"- {limit}" for limit in limits),
    ]
    return "\n\n".join(section.strip() for section in sections) + "\n"


def _format_preprocessing(given: Preprocessing | None) -> str:
    if given is None:
        return ""
    how = "cropped to the central square and" if given.resize == "crop" else "stretched and"
    return (
        f"Images are RGB or grey according to the shape, {how} resized to {given.image_size} pixels per "
        f"side. The program divides by 255, subtracts {list(given.mean)} and divides by "
        f"{list(given.std)}, by channel."
    )


def _results(result: Mapping[str, Any]) -> Sequence[str]:
    title = models.entry(result["model"]).title
    rows = [
        ("network", results.format_network(result, title)),
        *([("trained", _trained(result))] if result.get("freeze_backbone") else []),
        ("data", result["data"]),
        ("split", results.format_split(result)),
        *(
            (f"leakage, {part}", _percent(fraction))
            for part, fraction in (result.get("leakage") or {}).items()
        ),
        ("test accuracy", _accuracy(result)),
        ("validation accuracy", _percent(result.get("validation_accuracy"))),
        (
            "training",
            f"{result['epochs']} epochs, batch {result['batch_size']}, seed {result['seed']}",
        ),
        ("image size", f"{result['image_size']} pixels"),
        ("hardware", result["hardware"]),
        ("note", result.get("note") or "none"),
    ]
    table = ["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows)]
    return ["\n".join(table)]


def _trained(result: Mapping[str, Any]) -> str:
    total = result["parameters"] + result["auxiliary_parameters"]
    return f"{result['trained_parameters']:,} of {total:,} parameters; the backbone is frozen"


def _accuracy(result: Mapping[str, Any]) -> str:
    if result.get("test_accuracy") is None:
        return "unknown"
    text = _percent(result["test_accuracy"])
    if result.get("test_interval"):
        low, high = result["test_interval"]
        text += f" [{100 * low:.2f}, {100 * high:.2f}] (95 %, {result['interval_method']})"
    return f"{text}, {result['test_examples']:,} images"


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{100 * value:.2f} %"


def _own_limits(result: Mapping[str, Any] | None) -> Sequence[str]:
    if result is None:
        return ()
    limits = []
    leak = (result.get("leakage") or {}).get("test")
    if leak:
        limits.append(
            f"{100 * leak:.1f} % of the test images have a near-duplicate in training: the accuracy "
            "measures recognition of copies."
        )
    elif leak is None and result["split"] == "random":
        limits.append("Whether test images have near-duplicates in training was not measured.")
    if result["data"] == "synthetic_tissue":
        limits.append("It was trained on synthetic images and not tested on real tissue.")
    return limits


def _source(source: Mapping[str, Any]) -> str:
    origin = {key: source[key] for key in ("file", "hub", "layout", "sha256") if source.get(key)}
    return ", ".join(f"{key} {value}" for key, value in origin.items()) or "unknown source"
