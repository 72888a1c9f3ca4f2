"""The networks, and training them, are PyTorch's: random weights, random batches, both sides side by side.

In double precision rounding leaves about 1e-15 to 1e-12, while a wrong epsilon leaves 1e-7. In single
precision a training gradient moves by per cents when a ReLU's sign flips, so only logits are held there.
"""

from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import config_dict

pytest.importorskip("torch")

from jaxnets.bench import drift, ours
from jaxnets.bench.oracles import load
from jaxnets.training.loss import make_loss
from jaxnets.training.preprocess import make_preprocess

pytestmark = pytest.mark.oracle
mirror, weights = load("mirror"), load("weights")

STEPS = 10
LARGE = pytest.mark.timeout(1200)  # two compilations and forty passes in double precision
NETWORKS = ["lenet5", "narrow resnet", pytest.param("resnet50", marks=LARGE)]
RULES = {
    "sgd": {"name": "sgd", "learning_rate": 0.01, "nesterov": True, "weight_decay": 1e-2},
    "adam": {"name": "adam", "learning_rate": 1e-3, "weight_decay": 1e-2},
    "adamw": {"name": "adam", "learning_rate": 1e-3, "weight_decay": 1e-2, "decoupled": True},
}


def recipe(network: str, rule: str = "sgd", dtype: str = "float64") -> config_dict.ConfigDict:
    if network == "lenet5":
        config = ours.recipe("lenet5", image_size=28, batch_size=8)
    else:
        config = ours.recipe("resnet50", image_size=64, batch_size=4)
    if network == "narrow resnet":
        config.model.stage_sizes, config.model.width = (1, 1, 1, 1), 8
    config.model.dtype = dtype
    config.optimizer.update(RULES[rule])
    return config


def random_variables(config: config_dict.ConfigDict) -> dict[str, Any]:
    state = ours.build(config).state
    return mirror.perturbed(state.variables(), seed=1)


def relative_error(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest difference, in units of the largest value."""
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize("network", NETWORKS)
def test_logits_in_single_precision(network: str) -> None:
    config = recipe(network, dtype="float32")
    variables, batch = random_variables(config), ours.random_batch(config, seed=0)
    theirs = mirror.Mirror(config)
    theirs.load(variables)
    inputs, _ = make_preprocess(config, train=False)(batch, jax.random.key(0))
    model = ours.build(config, variables).model
    logits = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, inputs)
    assert logits.dtype == np.float32
    assert relative_error(np.asarray(logits), theirs.logits(batch["image"], train=False)) < 1e-4


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("network", NETWORKS)
def test_logits_statistics_and_gradient(network: str) -> None:
    config = recipe(network)
    variables, batch = random_variables(config), ours.random_batch(config, seed=0)
    model, loss = ours.build(config, variables).model, make_loss(config.train)
    inputs, targets = make_preprocess(config, train=False)(batch, jax.random.key(0))

    @jax.jit
    def evaluate(variables):
        return model.apply(variables, inputs, train=False)

    @jax.jit
    def train(variables):
        def loss_of(params):
            logits, updates = model.apply(
                {**variables, "params": params}, inputs, train=True, mutable=["batch_stats"]
            )
            terms = loss(logits, targets, np.ones(len(targets)))
            return terms.total / terms.normalizer, (logits, updates.get("batch_stats", {}))

        return jax.value_and_grad(loss_of, has_aux=True)(variables["params"])

    theirs = mirror.Mirror(config)
    theirs.load(variables)
    expected = theirs.logits(batch["image"], train=False)
    assert relative_error(np.asarray(evaluate(variables)), expected) < 1e-10

    (loss_value, (logits, statistics)), gradient = jax.device_get(train(variables))
    expected = theirs.logits(batch["image"], train=True)
    assert relative_error(logits, expected) < 1e-10
    updated = {"params": variables["params"], "batch_stats": statistics}
    assert max(theirs.distances(updated).values()) < 1e-10

    theirs.load(variables)
    expected_loss, expected_gradient = theirs.gradient(batch, train=True)
    assert loss_value == pytest.approx(expected_loss, rel=1e-10)
    name = config.model.name
    distances = weights.distances(weights.to_torch(name, gradient), expected_gradient)
    assert max(distances.values()) < 1e-8, max(distances, key=distances.get)


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
def test_each_of_ten_steps_from_the_same_state(network: str, rule: str) -> None:
    config = recipe(network, rule)
    variables = random_variables(config)
    steps = drift.compare_steps(config, steps=STEPS, restart=True, variables=variables)
    seen = 0
    for distances in steps:
        farthest = max(distances, key=distances.get)
        assert distances[farthest] < 1e-9, f"step {seen}: {farthest} by {distances[farthest]}"
        seen += 1
    assert seen == STEPS


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("rule", "change"),
    [
        ("sgd", {"nesterov": False}),
        ("sgd", {"momentum": 0.91}),
        ("sgd", {"weight_decay": 0.0101}),
        ("adam", {"decoupled": True}),
        ("adam", {"epsilon": 1e-7}),
        ("adam", {"beta2": 0.998}),
    ],
)
def test_the_comparison_sees_another_rule(
    rule: str, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = recipe("lenet5", rule)
    other = config.copy_and_resolve_references()
    other.optimizer.update(change)
    make_theirs = mirror.Mirror
    monkeypatch.setattr(mirror, "Mirror", lambda config: make_theirs(other))
    *_, last = drift.compare_steps(config, steps=2, restart=True)
    assert last[drift.PARAMETERS] > 1e-8


@pytest.mark.parametrize("network", ["lenet5", "narrow resnet"])
def test_weights_come_back_from_pytorch(network: str) -> None:
    config = recipe(network, dtype="float32")
    variables = random_variables(config)
    theirs = mirror.Mirror(config)
    theirs.load(variables)
    arrays = {name: tensor.numpy() for name, tensor in theirs.network.state_dict().items()}
    for tree in variables.values():
        back = weights.from_torch(config.model.name, arrays, like=tree)
        jax.tree.map(np.testing.assert_array_equal, back, tree)
