"""Networks and their training match PyTorch, with random weights and batches.

In double precision rounding errors are about 1e-15 to 1e-12, while a wrong epsilon causes 1e-7. In single
precision the sign flip of a ReLU changes a gradient by per cents, so only logits are compared.
"""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import pytest
from ml_collections import config_dict

pytest.importorskip("torch")

from benchmarks import drift, jax_model
from benchmarks.oracles import load
from jaxnets import models
from jaxnets.interop.convert import to_torch
from jaxnets.models.base import ModelOutput
from jaxnets.models.inception_resnet_v2 import InceptionResNetV2
from jaxnets.training.loss import make_loss
from jaxnets.training.preprocess import make_preprocess

pytestmark = [pytest.mark.oracle, pytest.mark.usefixtures("optax_promotion")]
drawn, mirror, weights = load("drawn"), load("mirror"), load("weights")


@dataclasses.dataclass(frozen=True)
class Case:
    """A network, its image and batch size, and its model overrides."""

    network: str
    image_size: int
    batch_size: int
    model: dict[str, Any] = dataclasses.field(default_factory=dict)


NO_DROPOUT = {"auxiliary_dropout": 0.0}
CASES = {
    "lenet5": Case("lenet5", 28, 8),
    "alexnet pool3": Case("alexnet", 32, 4, {"variant": "pool3"}),
    "alexnet pool2": Case("alexnet", 32, 4, {"variant": "pool2"}),
    "narrow resnet": Case("resnet50", 64, 4, {"stage_sizes": (1, 1, 1, 1), "width": 8}),
    "resnet50": Case("resnet50", 64, 4),
    "resnet50 224": Case("resnet50", 224, 2),
    **{f"resnet{layers}": Case(f"resnet{layers}", 64, 4) for layers in (18, 34, 101, 152)},
    "vgg16": Case("vgg16", 32, 2),
    "vgg16_bn": Case("vgg16_bn", 64, 4),
    "xception": Case("xception", 74, 4, {"variant": "timm"}),
    "xception 299": Case("xception", 299, 2, {"variant": "timm"}),
    "inception_v1": Case("inception_v1", 64, 4, NO_DROPOUT),
    "inception_v1 paper": Case("inception_v1", 64, 4, {**NO_DROPOUT, "variant": "paper"}),
    "inception_v1 224": Case("inception_v1", 224, 2, NO_DROPOUT),
    "inception_v3": Case("inception_v3", 75, 4),
    "inception_v3 299": Case("inception_v3", 299, 2),
    "inception_resnet_v2": Case("inception_resnet_v2", 107, 2),
    "inception_resnet_v2 299": Case("inception_resnet_v2", 299, 2),
    "densenet121": Case("densenet121", 64, 4),
    "densenet121 224": Case("densenet121", 224, 2),
    "mobilenet_v2": Case("mobilenet_v2", 64, 4),
    "mobilenet_v2 224": Case("mobilenet_v2", 224, 2),
    "efficientnet_b0": Case("efficientnet_b0", 64, 4),
    "efficientnet_b0 224": Case("efficientnet_b0", 224, 2),
    "efficientnet_lite0": Case("efficientnet_lite0", 64, 4),
    "efficientnet_lite0 224": Case("efficientnet_lite0", 224, 2),
    "convnext_tiny": Case("convnext_tiny", 64, 4),
    "convnext_tiny 224": Case("convnext_tiny", 224, 2),
    "efficientnet_lite1": Case("efficientnet_lite1", 75, 4),
    "efficientnet_lite2": Case("efficientnet_lite2", 75, 4),
}
STEPS = 10
FAST_COMPILATION = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
"""Halves the compilation time of deep networks."""
LARGE = pytest.mark.timeout(3600)  # two compilations and forty passes in double precision
SMALL = ["lenet5", "narrow resnet"]
DEEPEST = [
    *("inception_resnet_v2", "resnet34", "resnet101", "resnet152", "vgg16", "vgg16_bn", "xception"),
    *("efficientnet_lite1", "efficientnet_lite2"),
]
"""Their gradients take a minute or more, mostly to compile, or, of VGG's, 9 GB.

EfficientNet-Lite0 and ResNet-18 have the layers of the deeper ones.
"""


def _marked(name: str, *, gradient: bool) -> Any:
    """Returns the case with marks: full image sizes and the gradients of the deepest networks are slow."""
    slow = CASES[name].image_size >= 224 or (gradient and name in DEEPEST)
    return pytest.param(name, marks=[LARGE, *([pytest.mark.slow] if slow else [])])


def _networks(*, gradient: bool) -> list[Any]:
    return [*SMALL, *(_marked(name, gradient=gradient) for name in CASES if name not in SMALL)]


RULES = {
    "sgd": {"name": "sgd", "learning_rate": 0.01, "nesterov": True, "weight_decay": 1e-2},
    "adam": {"name": "adam", "learning_rate": 1e-3, "weight_decay": 1e-2},
    "adamw": {"name": "adam", "learning_rate": 1e-3, "weight_decay": 1e-2, "decoupled_weight_decay": True},
}


def make_config(name: str, rule: str = "sgd", dtype: str = "float64") -> config_dict.ConfigDict:
    case = CASES[name]
    config = jax_model.make_config(case.network, image_size=case.image_size, batch_size=case.batch_size)
    config.model.update(case.model)
    config.model.dtype = dtype
    config.optimizer.update(RULES[rule])
    return config


def random_variables(config: config_dict.ConfigDict) -> dict[str, Any]:
    size = config.data.image_size
    return drawn.variables(models.create(config.model), (1, size, size, len(config.data.mean)))


def relative_error(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Returns the largest difference, relative to the largest value."""
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def record_errors(record: Callable[[str, object], None], name: str, errors: dict[str, float]) -> None:
    """Adds the relative errors of a passed test to pytest's XML file, for studies/pages/parity_table.py."""
    case = CASES[name]
    if name != "narrow resnet":  # a network of the tests alone
        variant = case.model.get("variant")
        row = {"library": "PyTorch", "network": case.network, "variant": variant, "pixels": case.image_size}
        record("parity", json.dumps({**row, "errors": errors}))


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return jax.jit(function, compiler_options=FAST_COMPILATION)


def outputs_of(outputs: Any) -> list[np.ndarray]:
    """Returns the logits, followed by those of auxiliary heads."""
    return [outputs.main, *outputs.auxiliary] if isinstance(outputs, ModelOutput) else [outputs]


def without_rounding(gradient: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the gradient with 0 for tensors below 1e-14 of its norm, which are rounding errors.

    A bias before a batch norm has such a gradient, as in the last residual block of Inception-ResNet v2.
    """
    length = np.sqrt(sum(np.sum(np.square(array)) for array in gradient.values()))
    return {
        name: array if np.linalg.norm(array) > 1e-14 * length else np.zeros_like(array)
        for name, array in gradient.items()
    }


def test_every_image_network_is_compared() -> None:
    image_networks = {name for name, entry in models.REGISTRY.items() if entry.kind == "image"}
    only_in_keras = {"nasnet_mobile"}  # compared in tests/interop/test_keras_parity.py
    assert {case.network for case in CASES.values()} | only_in_keras == image_networks


@pytest.mark.parametrize("network", _networks(gradient=False))
def test_logits_in_single_precision(network: str, record_property: Callable[[str, object], None]) -> None:
    config = make_config(network, dtype="float32")
    variables, batch = random_variables(config), jax_model.random_batch(config, seed=0)
    theirs = mirror.Mirror(config)
    theirs.load(variables)
    inputs, _ = make_preprocess(config, train=False)(batch, jax.random.key(0))
    model = jax_model.build(config, variables).model
    logits = compiled(lambda v, x: model.apply(v, x, train=False))(variables, inputs)
    assert logits.dtype == np.float32
    (expected,) = theirs.logits(batch["image"], train=False)
    error = relative_error(np.asarray(logits), expected)
    print(f"{network}: logits in single precision {error:.1e}")
    assert error < 1e-4
    record_errors(record_property, network, {"float32": error})


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("network", _networks(gradient=True))
def test_logits_statistics_and_gradient(network: str, record_property: Callable[[str, object], None]) -> None:
    config = make_config(network)
    variables = random_variables(config)
    model = jax_model.build(config, variables).model
    errors = _compare(network, config, model, variables, mirror.Mirror(config))
    record_errors(record_property, network, errors)


@LARGE
@pytest.mark.usefixtures("x64")
def test_short_inception_resnet_v2() -> None:
    """With one block of each kind, the gradient compiles in half a minute."""
    name = "inception_resnet_v2"
    config = make_config(name)
    model = InceptionResNetV2(config.model.num_classes, repeats=(1, 1, 1), dtype=np.float64)
    theirs = mirror.Mirror(config)
    network = theirs.network
    network.repeat, network.repeat_1, network.repeat_2 = (
        network.repeat[:1],
        network.repeat_1[:1],
        network.repeat_2[:0],
    )
    variables = drawn.variables(model, (1, 107, 107, 3))
    _compare(f"{name} of one block each", config, model, variables, theirs, _rename_last_block)


def _rename_last_block(tree: dict[str, Any]) -> dict[str, Any]:
    """Renames the only block C of the short network to the last of the full network."""
    return {name.replace("inception_resnet_c1", "inception_resnet_c10"): v for name, v in tree.items()}


def _compare(
    title: str,
    config: config_dict.ConfigDict,
    model: nn.Module,
    variables: dict[str, Any],
    theirs: Any,
    rename: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> dict[str, float]:
    """Asserts that logits, statistics, loss and gradient match PyTorch; prints and returns the errors."""
    batch, loss = jax_model.random_batch(config, seed=0), make_loss(config.train)
    inputs, targets = make_preprocess(config, train=False)(batch, jax.random.key(0))

    @compiled
    def evaluate(variables):
        return model.apply(variables, inputs, train=False)

    @compiled
    def train(variables):
        def loss_of(params):
            outputs, updates = model.apply(
                {**variables, "params": params}, inputs, train=True, mutable=["batch_stats"]
            )
            terms = loss(outputs, targets, np.ones(len(targets)))
            return terms.total / terms.weight_sum, (outputs, updates.get("batch_stats", {}))

        return jax.value_and_grad(loss_of, has_aux=True)(variables["params"])

    given = {collection: rename(tree) for collection, tree in variables.items()}
    theirs.load(given)
    (expected,) = theirs.logits(batch["image"], train=False)
    logits_error = relative_error(np.asarray(evaluate(variables)), expected)
    (loss_value, (outputs, statistics)), gradient = jax.device_get(train(variables))
    expected = theirs.logits(batch["image"], train=True)
    training_error = max(
        relative_error(logits, other) for logits, other in zip(outputs_of(outputs), expected, strict=True)
    )
    updated = {"params": given["params"], "batch_stats": rename(statistics)}
    statistics_error = max(theirs.distances(updated).values())

    theirs.load(given)
    expected_loss, expected_gradient = theirs.gradient(batch, train=True)
    ours_by_name = without_rounding(to_torch(config.model.name, rename(gradient)))
    distances = weights.distances(ours_by_name, without_rounding(expected_gradient))
    worst = max(distances, key=lambda name: distances[name])
    print(
        f"{title}: logits {logits_error:.1e}, in training {training_error:.1e}, "
        f"statistics {statistics_error:.1e}, "
        f"gradient {distances[worst]:.1e} ({worst})"
    )
    assert logits_error < 1e-10
    assert training_error < 1e-9
    assert statistics_error < 1e-10
    assert loss_value == pytest.approx(expected_loss, rel=1e-10)
    assert distances[worst] < 1e-8, worst
    of_statistics = {"statistics": statistics_error} if given["batch_stats"] else {}
    of_logits = {"logits": logits_error, "training": training_error}
    return {**of_logits, **of_statistics, "gradient": distances[worst]}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("network", "rule"),
    [
        ("lenet5", "sgd"),
        ("lenet5", "adam"),
        ("lenet5", "adamw"),
        ("narrow resnet", "sgd"),
        ("narrow resnet", "adam"),
        pytest.param("resnet50", "sgd", marks=LARGE),
        pytest.param("resnet50", "adam", marks=LARGE),
    ],
)
def test_ten_steps_match_from_the_same_state(network: str, rule: str) -> None:
    config = make_config(network, rule)
    variables = random_variables(config)
    steps = drift.compare_steps(config, steps=STEPS, restart=True, variables=variables)
    count = 0
    for distances in steps:
        worst = max(distances, key=distances.get)
        assert distances[worst] < 1e-9, f"step {count}: {worst} by {distances[worst]}"
        count += 1
    assert count == STEPS


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("rule", "change"),
    [
        ("sgd", {"nesterov": False}),
        ("sgd", {"momentum": 0.91}),
        ("sgd", {"weight_decay": 0.0101}),
        ("adam", {"decoupled_weight_decay": True}),
        ("adam", {"epsilon": 1e-7}),
        ("adam", {"beta2": 0.998}),
    ],
)
def test_comparison_detects_other_optimizer_settings(
    rule: str, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config("lenet5", rule)
    other = config.copy_and_resolve_references()
    other.optimizer.update(change)
    original = mirror.Mirror
    monkeypatch.setattr(mirror, "Mirror", lambda config: original(other))
    *_, last = drift.compare_steps(config, steps=2, restart=True)
    assert last[drift.PARAMETERS] > 1e-8


FULL_SIZE = [name for name in CASES if name[-3:] in ("224", "299")]


@pytest.mark.parametrize("network", [name for name in CASES if name not in FULL_SIZE])
def test_weights_round_trip_through_pytorch(network: str) -> None:
    config = make_config(network, dtype="float32")
    variables = random_variables(config)
    theirs = mirror.Mirror(config)
    theirs.load(variables)
    arrays = {name: tensor.numpy() for name, tensor in theirs.network.state_dict().items()}
    for tree in variables.values():
        restored = load("weights").from_torch(config.model.name, arrays, like=tree)
        jax.tree.map(np.testing.assert_array_equal, restored, tree)
