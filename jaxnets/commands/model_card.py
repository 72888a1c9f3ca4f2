"""What every export says about a network: its data, its accuracy and its limits."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import jinja2

from jaxnets import models
from jaxnets.data import sources
from jaxnets.evaluation import result as results
from jaxnets.interop import imagenet
from jaxnets.interop.weights import Preprocessing, Weights
from jaxnets.runtime import xla


@dataclasses.dataclass(frozen=True)
class ModelCard:
    """The description of a network, as text and as values that programs read.

    `facts` is a table; `leaky` and `disclaimer` are warnings, "" if there is none. `license` is None if it is
    unknown. `result` is that of the run, None for imported weights or an unfinished run.
    """

    title: str
    summary: str
    facts: dict[str, str]
    leaky: str
    disclaimer: str
    limits: Sequence[str]
    calibration: str
    license: str | None
    weights: Weights
    preprocessing: Preprocessing
    result: results.Result | None

    @property
    def classes(self) -> Sequence[str]:
        """The names of the classes; numbers if they are unknown."""
        return self.weights.classes or tuple(map(str, range(self.weights.model.num_classes)))


def describe(
    weights: Weights, given: Preprocessing, result: results.Result | None, *, has_logits: bool
) -> ModelCard:
    """Makes the card of a network; `has_logits` if the export returns logits, not probabilities."""
    entry, source = models.entry(weights.model.name), weights.source
    return ModelCard(
        title=entry.title if result is None else f"{entry.title}: {result['name']}",
        summary=_summary(weights, entry.title),
        facts=_facts(weights, given, result),
        leaky=_leaky(result),
        disclaimer=sources.disclaimer(source.get("data"), medical=source.get("medical", False)),
        limits=_limits(weights, result),
        calibration=_calibration(weights.temperature, result, has_logits=has_logits),
        license=source.get("license"),
        weights=weights,
        preprocessing=given,
        result=result,
    )


def _summary(weights: Weights, title: str) -> str:
    """The network and its numbers of parameters."""
    params = weights.variables["params"]
    in_heads = models.count_parameters(models.auxiliary_part(params))
    name = f"{title} up to {weights.model.truncate_after}" if weights.model.truncate_after else title
    heads = f" and {in_heads:,} in auxiliary heads, used only in training" if in_heads else ""
    return f"{name}, {models.count_parameters(params) - in_heads:,} parameters{heads}."


def _facts(weights: Weights, given: Preprocessing, result: results.Result | None) -> dict[str, str]:
    """The table: first what any network has, then the run's."""
    title, source = models.entry(weights.model.name).title, weights.source
    facts = {"network": title, "image size": f"{given.image_size} pixels"}
    if result is not None:
        facts["network"] = results.format_network(result, title)
        if result["freeze_backbone"]:
            total = result["parameters"] + result["auxiliary_parameters"]
            facts["trained"] = (
                f"{result['trained_parameters']:,} of {total:,} parameters: the backbone is frozen"
            )
        facts |= {"data": result["data"], "split": results.format_split(result)}
        for part, fraction in result["leakage"].items():
            facts[f"leakage, {part}"] = "unknown" if fraction is None else f"{100 * fraction:.2f} %"
        facts[_name_of_accuracy(result)] = _format_accuracy(result)
        if (validation := result["validation_accuracy"]) is not None:
            facts["validation accuracy"] = f"{100 * validation:.2f} %"
        facts["training"] = (
            f"{results.format_epochs(result['epochs'])}, batch size {result['batch_size']}, "
            f"seed {result['seed']}, on {result['hardware']}"
        )
        if result["note"]:
            facts["note"] = result["note"]
    else:
        origin = [f"{key} {source[key]}" for key in ("file", "hub", "layout", "sha256") if source.get(key)]
        facts["weights"] = f"not trained by jaxnets: {', '.join(origin) or 'unknown source'}"
    if license_ := source.get("license"):
        facts["licence of the weights"] = license_
    elif imagenet.is_name(str((backbone := source.get("backbone") or {}).get("weights"))):
        facts["backbone"] = f"{backbone['weights']}, licence {imagenet.LICENSE}"
    return facts


def _name_of_accuracy(result: results.Result) -> str:
    if "cross_validation" in result:
        return f"accuracy in {result['cross_validation']['folds']}-fold cross-validation"
    return "test accuracy"


def _format_accuracy(result: results.Result) -> str:
    if result["test_accuracy"] is None or result["test_interval"] is None:
        return "unknown"
    low, high = result["test_interval"]
    return (
        f"{100 * result['test_accuracy']:.2f} % [{100 * low:.2f}, {100 * high:.2f}] "
        f"(95 %, {result['interval_method']}), {result['test_examples']:,} images"
    )


def _leaky(result: results.Result | None) -> str:
    if result is None or not results.is_leaky(result):
        return ""
    leaked = result["leakage"].get("test")
    share = "Some" if leaked is None else f"{100 * leaked:.1f} %"
    if result.get("given_groups"):
        images = f"{share} of the test images have images of their group in training."
        return f"{images} The accuracy on them is not that on images of new groups."
    images = f"{share} of the test images have a near-duplicate in training."
    return f"{images} The accuracy on them measures the recognition of copies."


def _limits(weights: Weights, result: results.Result | None) -> list[str]:
    limits = list(weights.source.get("warnings", ()))
    if result is not None:
        if result["tests"] and result["leakage"].get("test") is None:
            limits.append(
                "Whether test images have near-duplicates or images of their group in training is unknown."
            )
        if result["data"] == "synthetic_tissue":
            limits.append("It was trained on synthetic images and not tested on real tissue.")
        if "cross_validation" in result:
            limits.append(
                "It was trained on all images. Accuracy and temperature are those of "
                f"{len(result['cross_validation']['runs'])} networks that were trained in the same way, each "
                "tested on images that it was not trained on. There are no prediction sets and no scores of "
                "unlike images: these need images that the network was not trained on."
            )
    limits.append("The metrics apply to images of the same source and preparation.")
    return [*limits, "It predicts one of its classes for any picture."]


def _calibration(temperature: float | None, result: results.Result | None, *, has_logits: bool) -> str:
    if temperature is None:
        return "Confidences are uncalibrated: there is no temperature from validation images."
    is_pooled = result is not None and "cross_validation" in result
    images = "the test images of the cross-validation" if is_pooled else "validation images"
    fitted = f"{temperature:.3g}, which was fitted on {images}"
    if has_logits:
        return f"For calibrated confidences, divide the logits by {fitted}."
    return f"Confidences are calibrated: the logits are divided by {fitted}."


def to_metadata(card: ModelCard) -> dict[str, str]:
    """What a program that reads an ONNX file may want to know, as JSON by key."""
    weights, result = card.weights, card.result
    about: dict[str, Any] = {
        "network": models.entry(weights.model.name).title,
        "classes": card.classes,
        "preprocessing": dataclasses.asdict(card.preprocessing),
        "temperature": weights.temperature,
        "license": card.license or "unknown",
        "source": {key: value for key, value in weights.source.items() if key != "warnings"},
        "disclaimer": card.disclaimer,
    }
    if result is not None:
        about["test_accuracy"], about["test_interval"] = result["test_accuracy"], result["test_interval"]
        about["interval_method"], about["split"] = result["interval_method"], results.format_split(result)
        about["leakage"] = result["leakage"].get("test")
        if "cross_validation" in result:
            about["cross_validation_folds"] = result["cross_validation"]["folds"]
    return {key: json.dumps(value) for key, value in about.items()}


def to_markdown(card: ModelCard, *, loading: str, raw: bool = False) -> str:
    """The card as a README.md; `loading` is the export: "stablehlo", "onnx", "web" or "timm".

    With `raw` the images must be scaled and normalised before. A card of timm has the front matter by which
    the Hugging Face hub finds and shows a model.
    """
    options = {"trim_blocks": True, "lstrip_blocks": True, "keep_trailing_newline": True}
    environment = jinja2.Environment(loader=jinja2.PackageLoader("jaxnets.commands"), **options)
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "sort_keys": False}
    return environment.get_template("model_card.md").render(
        card=card,
        loading=loading,
        raw=raw,
        front_matter=front_matter(card) if loading == "timm" else None,
        shape=card.weights.input_shape,
        dtype=card.weights.model.dtype,
        safe_flag=xla.SAFE_FLAG,
    )


def front_matter(card: ModelCard) -> dict[str, Any]:
    """The fields by which the hub finds a model, with its test result; the license only if it is known."""
    fields: dict[str, Any] = {
        "tags": ["image-classification", "timm", "jaxnets"],
        "library_name": "timm",
        "pipeline_tag": "image-classification",
    }
    if card.license is not None:
        fields["license"] = card.license.lower()
    result = card.result
    if result is None or result["test_accuracy"] is None:
        return fields
    task = {"type": "image-classification", "name": "Image classification"}
    leaked = "images of test groups" if result.get("given_groups") else "copies of test images"
    leaky = f" (LEAKY: {leaked} are in training)" if card.leaky else ""
    accuracy = {
        "type": "accuracy",
        "value": result["test_accuracy"],
        "name": f"{_name_of_accuracy(result)}, {_format_accuracy(result)}{leaky}",
    }
    dataset = {"name": sources.TITLES[result["data"]], "type": result["data"], "split": "test"}
    measured = {"task": task, "dataset": dataset, "metrics": [accuracy]}
    return {**fields, "model-index": [{"name": result["name"], "results": [measured]}]}
