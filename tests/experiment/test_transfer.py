"""Transfer learning: pretrained and frozen backbones, cached features."""

import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from training_runs import SignalAfterStep, read_metrics

import jaxnets
from jaxnets import config as config_lib
from jaxnets import models
from jaxnets.commands import export as exporting
from jaxnets.data.sources.synthetic_tissue import SyntheticTissue
from jaxnets.errors import CheckpointError, ConfigError, InterruptedRunError
from jaxnets.evaluation.predictions import load_predictions, predictions_name
from jaxnets.experiment import cached_features, environment, network
from jaxnets.experiment.network import Pretrained, hyperparameters, make_optimizer_bundle
from jaxnets.experiment.resolve import _follow_pretrained
from jaxnets.experiment.restore import restore_state
from jaxnets.experiment.run_directory import open_run, read_result
from jaxnets.interop.weights import Preprocessing, Weights, write_weights
from jaxnets.training.transfer import BackboneHeadPartition

PLAIN = {
    "augment.flip_horizontal": False,
    "augment.flip_vertical": False,
    "augment.right_angles": False,
    "data.num_examples": 60,
    "log.tensorboard": False,
}
FROZEN = {"transfer.weights": "random", "transfer.freeze_backbone": True}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Overrides of configs/lung_resnet.py:smoke, a narrow ResNet, without augmentation."""
    return {**PLAIN, "data.root": str(tmp_path_factory.mktemp("data"))}


@pytest.fixture(scope="module")
def frozen_run(smoke_config: str, plain: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that trained a head on cached features of a frozen random backbone."""
    directory = tmp_path_factory.mktemp("runs") / "frozen"
    jaxnets.train(smoke_config, {**plain, **FROZEN}, workdir=directory)
    return directory


def _variables(directory: Path) -> dict[str, Any]:
    return restore_state(open_run(directory, ignore_damage=True)).state.variables()


def _arrays(directory: Path) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(_variables(directory))
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def test_a_frozen_backbone_is_unchanged_and_has_no_optimizer_state(frozen_run: Path) -> None:
    config = open_run(frozen_run).config
    key = jax.random.fold_in(jax.random.key(config.seed), 1)
    drawn = models.initialize(models.create(config.model), key, (1, 32, 32, 3))["params"]
    trained = _variables(frozen_run)["params"]
    assert set(trained) - {"classifier"}
    for name, module in trained.items():
        same = jax.tree.map(np.array_equal, module, drawn[name])
        assert all(jax.tree.leaves(same)) is (name != "classifier"), name
    shapes = json.loads(next(frozen_run.glob("checkpoints/*/shapes.json")).read_text())
    rule = [path for path in shapes if path.startswith("opt_state")]
    assert any("classifier/kernel" in path for path in rule)
    assert not [path for path in rule if "conv" in path or "norm" in path]
    result = json.loads((frozen_run / "result.json").read_text())
    assert result["trained_parameters"] == 256 * 3 + 3


def test_a_frozen_backbone_does_not_update_batch_stats(
    frozen_run: Path, smoke_config: str, plain: dict[str, Any], tmp_path: Path
) -> None:
    jaxnets.train(smoke_config, {**plain, **FROZEN, "train.epochs": 1}, workdir=tmp_path / "short")
    longer, shorter = (_variables(frozen_run)["batch_stats"], _variables(tmp_path / "short")["batch_stats"])
    assert jax.tree.leaves(longer)
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, longer, shorter)))


def test_the_head_is_the_same_without_cached_features(
    frozen_run: Path, smoke_config: str, plain: dict[str, Any], tmp_path: Path
) -> None:
    overrides = {**plain, **FROZEN, "transfer.cache_features": False}
    jaxnets.train(smoke_config, overrides, workdir=tmp_path / "again")
    ours, theirs = _arrays(frozen_run), _arrays(tmp_path / "again")
    assert ours.keys() == theirs.keys()
    for path, array in ours.items():
        np.testing.assert_allclose(array, theirs[path], rtol=1e-5, atol=1e-6, err_msg=path)


def test_an_export_names_its_backbone(frozen_run: Path, tmp_path: Path) -> None:
    exporting.export(frozen_run, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    described = json.loads((tmp_path / "out" / "weights.json").read_text())
    result = read_result(frozen_run)
    assert result is not None
    assert f"| trained | {result['trained_parameters']:,} of {result['parameters']:,} para" in card
    assert "frozen) |" in card
    assert described["source"]["backbone"]["freeze_backbone"] is True
    assert described["source"]["backbone"]["weights"] == result["weights"]


def test_predictions_from_images_match_cached_features(frozen_run: Path) -> None:
    tested = load_predictions(frozen_run / predictions_name())  # from cached features
    settings = open_run(frozen_run).config.data
    source = SyntheticTissue(settings.num_examples, settings.image_size, settings.synthetic_seed)
    pixels = [source[int(index)]["image"] for index in tested.index]
    network = jaxnets.load(frozen_run, calibrated=False)
    probabilities = [list(each.probabilities.values()) for each in network.predict(pixels)]
    np.testing.assert_allclose(probabilities, tested.probabilities, atol=1e-5)


@pytest.mark.parametrize("multiplier", [1.0, 0.1])
def test_the_backbone_learning_rate_is_multiplied(smoke_config: str, multiplier: float) -> None:
    plain = {"optimizer.momentum": 0.0, "optimizer.weight_decay": 0.0}
    constant = {"schedule.name": "constant", "schedule.warmup_steps": 0}
    overrides = {"transfer.weights": "random", "transfer.backbone_lr_multiplier": multiplier}
    config = config_lib.load_config(smoke_config, {**plain, **constant, **overrides, "model.num_classes": 3})
    model = models.create(config.model)
    params = models.initialize(model, jax.random.key(0), (1, 32, 32, 3))["params"]
    parts = BackboneHeadPartition.of(model, (1, 32, 32, 3))
    numbers = hyperparameters(config, total_steps=9, steps_per_epoch=3)
    rule = make_optimizer_bundle(config, parts, numbers, steps_per_epoch=3)
    ones = jax.tree.map(np.ones_like, params)
    updates, _ = rule.optimizer.update(ones, rule.optimizer.init(params), params)
    rate = config.optimizer.learning_rate
    for name, module in updates.items():
        wanted = -rate * (1.0 if name in parts.head else multiplier)
        for leaf in jax.tree.leaves(module):
            np.testing.assert_allclose(leaf, wanted, rtol=1e-6, err_msg=name)


def test_resuming_with_another_backbone_raises(frozen_run: Path) -> None:
    run = open_run(frozen_run)
    mine = run.manifest.get("backbone_sha256")
    assert mine is not None
    run.check_weights(mine)
    for other in ("yours", None):
        with pytest.raises(CheckpointError, match="differ from those that .* was started with"):
            run.check_weights(other)
    dataclasses.replace(run, manifest_or_none=None).check_weights("any")  # no manifest yet


FINETUNE = {"transfer.head_only_epochs": 1, "transfer.backbone_lr_multiplier": 0.1}


@pytest.fixture(scope="module")
def from_trained(trained: Path, smoke_overrides: dict[str, Any]) -> dict[str, Any]:
    """Overrides that use the backbone of the small LeNet run."""
    return {**smoke_overrides, "transfer.weights": str(trained), **FINETUNE}


def test_head_only_steps_come_first_and_resume_is_bit_exact(
    trained: Path, smoke_config: str, from_trained: dict[str, Any], tmp_path: Path
) -> None:
    every = {**from_trained, "checkpoint.every_epochs": 1, "checkpoint.keep": 9}
    jaxnets.train(smoke_config, every, workdir=tmp_path / "straight")
    cut = tmp_path / "cut"
    with pytest.raises(InterruptedRunError):
        jaxnets.train(smoke_config, every, workdir=cut, callbacks=[SignalAfterStep(3)])
    jaxnets.train(smoke_config, every, workdir=cut)
    assert read_metrics(cut) == read_metrics(tmp_path / "straight")
    before, after = _variables(trained)["params"], _variables(tmp_path / "straight")["params"]
    assert not np.array_equal(before["conv1"]["kernel"], after["conv1"]["kernel"])
    first = min((tmp_path / "straight" / "checkpoints").iterdir())
    (cut / "result.json").unlink()
    for folder in (cut / "checkpoints").iterdir():
        if folder.name > first.name:
            (folder / "manifest.json").unlink()
    after_head = _variables(cut)["params"]
    np.testing.assert_array_equal(before["conv1"]["kernel"], after_head["conv1"]["kernel"])
    assert not np.array_equal(before["classifier"]["kernel"], after_head["classifier"]["kernel"])


@pytest.mark.parametrize(("split_seed", "warns"), [(0, False), (1, True)])
def test_test_images_of_the_pretraining_are_found(
    split_seed: int,
    warns: bool,
    smoke_config: str,
    from_trained: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    overrides = {**from_trained, "train.epochs": 1, "data.split_seed": split_seed}
    jaxnets.train(smoke_config, overrides, workdir=tmp_path / "run")
    assert ("% of the test images are training images of" in capsys.readouterr().err) is warns


def test_a_new_head_is_not_the_initial_one_of_the_pretraining_run(
    smoke_config: str, from_trained: dict[str, Any], tmp_path: Path
) -> None:
    """With the same seed, the backbone would have been trained for the new head already."""
    overrides = {**from_trained, "train.epochs": 1, "optimizer.learning_rate": 1e-9}
    jaxnets.train(smoke_config, overrides, workdir=tmp_path / "run")
    config = open_run(tmp_path / "run").config
    key = jax.random.fold_in(jax.random.key(config.seed), 1)
    initial = models.initialize(models.create(config.model), key, (1, 16, 16, 3))["params"]["dense1"][
        "kernel"
    ]
    found = _variables(tmp_path / "run")["params"]["dense1"]["kernel"]
    assert abs(np.corrcoef(np.ravel(initial), np.ravel(found))[0, 1]) < 0.5


@pytest.mark.parametrize("name", ["resnet50", pytest.param("efficientnet_lite0", marks=pytest.mark.slow)])
def test_a_new_head_starts_with_the_loss_of_random_guessing(
    name: str, plain: dict[str, Any], repository: Path, tmp_path: Path
) -> None:
    """EfficientNet's own initialisation draws kernels of deviation 1/3 for three classes."""
    spec = f"{repository / 'configs'}/lung_{name.removesuffix('50').removesuffix('_lite0')}.py:smoke"
    once = {"train.steps": 1, "log.every_steps": 1, "train.label_smoothing": 0.0}
    jaxnets.train(spec, {**plain, **FROZEN, **once}, workdir=tmp_path)
    first = next(record for record in read_metrics(tmp_path) if "loss" in record["values"])
    assert first["values"]["loss"] == pytest.approx(np.log(3), rel=1e-4)


def _write_weights_of(run: Path, folder: Path, *, level: float) -> dict[str, Any]:
    """Writes a run's weights with `level` as mean and std of the preprocessing."""
    variables = jax.tree.map(np.asarray, _variables(run))
    expected = Preprocessing(16, mean=(level,) * 3, std=(level,) * 3)
    model = open_run(run).config.model
    write_weights(folder, Weights(variables, model, (16, 16, 3), preprocessing=expected))
    return variables


@pytest.mark.parametrize("frozen", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_run_resumes_without_its_pretrained_weights(
    frozen: bool,
    trained: Path,
    smoke_config: str,
    smoke_overrides: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    weights, run = tmp_path / "weights" / "drawn", tmp_path / "run"
    variables = _write_weights_of(trained, weights, level=0.25)
    overrides = {
        **(smoke_overrides | ({"transfer.freeze_backbone": True} if frozen else FINETUNE) | PLAIN),
        "data.root": str(tmp_path),
        "transfer.weights": "drawn",
        "checkpoint.every_steps": 1,
    }
    with pytest.raises(InterruptedRunError):
        jaxnets.train(smoke_config, overrides, workdir=run, callbacks=[SignalAfterStep(3)])
    shutil.rmtree(weights)
    with pytest.raises(CheckpointError, match="no weights folder or run directory"):
        jaxnets.train(smoke_config, overrides, workdir=tmp_path / "other")
    done = jaxnets.train(smoke_config, overrides, workdir=run)
    assert done["complete"]
    assert "drawn not found: using the backbone in the checkpoint of" in capsys.readouterr().out
    if frozen:
        kernel = _variables(run)["params"]["conv2"]["kernel"]
        np.testing.assert_array_equal(kernel, variables["params"]["conv2"]["kernel"])
    assert jaxnets.train(smoke_config, overrides, workdir=run)["step"] == done["step"]
    with pytest.raises(ConfigError, match="with another config .*transfer.weights: 'drawn' -> 'random'"):
        jaxnets.train(smoke_config, {**overrides, "transfer.weights": "random"}, workdir=run)


def test_preprocessing_follows_the_weights(
    trained: Path,
    smoke_config: str,
    smoke_overrides: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    variables = _write_weights_of(trained, tmp_path / "weights" / "drawn", level=128 / 255)
    overrides = {
        **smoke_overrides,
        "data.root": str(tmp_path),
        "transfer.weights": "drawn",
        "transfer.freeze_backbone": True,
        "train.epochs": 1,
    }
    jaxnets.train(smoke_config, overrides, workdir=tmp_path / "run")
    assert "which expects (pixels in [0, 1] - 0.502" in capsys.readouterr().out
    assert open_run(tmp_path / "run").config.data.mean == (128 / 255,) * 3
    taken = _variables(tmp_path / "run")["params"]["conv2"]
    assert np.array_equal(taken["kernel"], variables["params"]["conv2"]["kernel"])


def test_weights_that_do_not_fit_raise(
    frozen_run: Path,
    smoke_config: str,
    from_trained: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    narrower = {"transfer.weights": str(frozen_run), "model.name": "resnet50", "model.width": 4}
    of_lenet = ("model.kernel_size",)
    for changes, message in (
        ({"transfer.weights": "nowhere"}, "no weights folder or run directory at nowhere or .*/nowhere "),
        ({"model.name": "alexnet"}, "has weights with model.name=lenet5"),
        ({"model.activation": "tanh"}, "model.activation=relu, but --config.model.activation is tanh"),
        ({"model.pooling": "average"}, "model.pooling=max, .*: set it to max"),
        ({**narrower, "data.image_size": 32}, "model.width=8, but --config.model.width is 4: set it to 8"),
    ):
        overrides = {
            path: value
            for path, value in from_trained.items()
            if "model.name" not in changes or path not in of_lenet
        }
        with pytest.raises(CheckpointError, match=message):
            jaxnets.train(smoke_config, {**overrides, **changes}, workdir=tmp_path / "refused")
    assert not (tmp_path / "refused" / "config.json").exists()
    assert "cache " not in capsys.readouterr().out, "nothing may be decoded for a backbone that does not fit"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"variant": "keras"},
            "model.variant=torchvision, but --config.model.variant is keras: set it to torch",
        ),
        (
            {"stage_sizes": (1, 1, 1, 1)},
            r"is \(1, 1, 1, 1\): set it to \(3, 4, 6, 3\), or use other weights$",
        ),
        ({"name": "efficientnet_lite1"}, r"use other weights \(imagenet:efficientnet_lite1\)$"),
        (
            {"name": "mobilenet_v2"},
            r"other weights \(.* hub:timm/mobilenetv2_100.ra_in1k data/weights/mobilenet_v2\)$",
        ),
        ({"name": "nasnet_mobile"}, r"set it to resnet50, or use other weights$"),
    ],
)
def test_weights_of_another_form_name_the_difference(changes: dict[str, Any], message: str) -> None:
    """Fewer blocks would find all their arrays in the weights."""
    config = config_lib.default_config()
    config.model.name = "resnet50"
    found = Pretrained(Path("weights"), {}, config.model.copy_and_resolve_references(), None, None)
    config.model.update(changes)
    with pytest.raises(CheckpointError, match=message):
        _follow_pretrained(config, found, ())


def test_a_random_backbone_is_calibrated_on_few_images(
    smoke_config: str, plain: dict[str, Any], tmp_path: Path
) -> None:
    """Few images are repeated: after a single batch the initial values would weigh 90 %."""
    few = {**plain, **FROZEN, "data.num_examples": 30, "train.epochs": 1}
    jaxnets.train(smoke_config, few, workdir=tmp_path / "few")
    variances = [
        np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(_variables(tmp_path / "few"))
        if path[-1].key == "var"
    ]
    assert min(variance.min() for variance in variances) < 0.5


def test_a_fitting_truncation_is_suggested() -> None:
    remedy = network._or_truncated("inception_v3", ["mixed7b/branch1x1/kernel", "mixed7c/pool/kernel"])
    assert remedy.endswith("--config.model.truncate_after=mixed7a")
    assert network._or_truncated("inception_v3", ["mixed7c/a"]).endswith("=mixed7b")
    assert network._or_truncated("inception_v3", ["mixed6e/a", "mixed7c/a"]) == ""
    assert network._or_truncated("resnet50", ["stage4_block3/conv1/kernel"]) == ""


@pytest.mark.parametrize(("given", "asked"), [(None, "torchvision"), ("torchvision", None), ("keras", None)])
def test_an_unset_variant_matches_the_default(given: str | None, asked: str | None) -> None:
    config, theirs = config_lib.default_config(), config_lib.default_config().model
    config.model.name = theirs.name = "resnet50"
    config.model.variant, theirs.variant = asked, given
    found = Pretrained(Path("weights"), {}, theirs, mean=None, std=None)
    _follow_pretrained(config, found, ())
    assert models.variant_of(config.model) == models.variant_of(theirs)


def test_another_variant_raises() -> None:
    config, theirs = config_lib.default_config(), config_lib.default_config().model
    config.model.name = theirs.name = "resnet50"
    config.model.variant, theirs.variant = "torchvision", "keras"
    found = Pretrained(Path("weights"), {}, theirs, mean=None, std=None)
    with pytest.raises(CheckpointError, match="model.variant=keras"):
        _follow_pretrained(config, found, ())


def test_user_set_preprocessing_must_match_the_weights() -> None:
    config, theirs = config_lib.default_config(), config_lib.default_config().model
    config.model.name = theirs.name = "resnet50"
    half = (0.5, 0.5, 0.5)
    found = Pretrained(Path("weights"), {}, theirs, mean=(0.4, 0.4, 0.4), std=half)
    with pytest.raises(ConfigError, match=r"data.mean=\(0.5, .* weights expects 0.4, 0.4, 0.4"):
        _follow_pretrained(config, found, {"data.mean"})
    _follow_pretrained(config, found, {"data.std"})  # which is theirs
    assert tuple(config.data.mean) == (0.4, 0.4, 0.4)


@pytest.mark.parametrize("change", [{"activation": "tanh"}, {"pooling": "average"}, {"kernel_size": 3}])
def test_cached_features_depend_on_the_model_fields(change: dict[str, Any]) -> None:
    model, other = config_lib.default_config().model, config_lib.default_config().model
    model.name = other.name = "lenet5"
    assert cached_features.backbone_fields(model) == cached_features.backbone_fields(other)
    other.update(change)
    assert cached_features.backbone_fields(model) != cached_features.backbone_fields(other)


def test_the_default_variant_is_the_first() -> None:
    for name, entry in models.REGISTRY.items():
        if entry.variants:
            model = config_lib.default_config().model
            model.name = name
            assert models.create(model).variant == models.variant_of(model)  # type: ignore[missing-attribute]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"transfer.freeze_backbone": True},
            "transfer.freeze_backbone=True is not used.* set --config.transfer.weights=FOLDER",
        ),
        (
            {"transfer.backbone_lr_multiplier": 0.5},
            "transfer.backbone_lr_multiplier=0.5 is not used.* set --config.transfer.weights=FOLDER",
        ),
        (
            {**FROZEN, "transfer.head_only_steps": 5},
            "head_only_steps=5 is not used.* set --config.transfer.freeze_backbone=False",
        ),
    ],
)
def test_contradictory_fields_raise(smoke_config: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config_lib.load_config(smoke_config, changes)


@pytest.mark.parametrize(
    "changed",
    [
        "backbone",
        "mean",
        "fingerprint",
        "jaxlib",
        "pillow",
        "kernels",
        "implementation",
        "processor",
        "flags",
    ],
)
def test_the_features_cache_key_changes_with_what_bits_depend_on(
    changed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_lib.default_config()
    config.model.name = "lenet5"
    source = SimpleNamespace(name="own", fingerprint="f")
    data: Any = SimpleNamespace(source=source)
    before = cached_features.cache_key(config, data, "backbone")
    assert cached_features.cache_key(config, data, "backbone") == before
    backbone = "backbone"
    if changed == "backbone":
        backbone = "other"
    elif changed == "mean":
        config.data.mean = (0.1,)
    elif changed == "fingerprint":
        source.fingerprint = "g"
    elif changed == "flags":
        monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    else:
        determinism_fingerprint = environment.determinism_fingerprint(config=config, execution={})
        monkeypatch.setattr(
            environment, "determinism_fingerprint", lambda **_: determinism_fingerprint | {changed: "another"}
        )
    assert cached_features.cache_key(config, data, backbone) != before


def test_the_features_cache_key_ignores_the_number_of_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    config, data = (
        config_lib.default_config(),
        SimpleNamespace(source=SimpleNamespace(name="", fingerprint="")),
    )
    config.model.name = "lenet5"
    determinism_fingerprint = environment.determinism_fingerprint(config=config, execution={})
    monkeypatch.setattr(
        environment, "determinism_fingerprint", lambda **_: determinism_fingerprint | {"devices": 8}
    )
    eight: Any = cached_features.cache_key(config, data, None)  # type: ignore[arg-type]
    monkeypatch.undo()
    assert cached_features.cache_key(config, data, None) == eight  # type: ignore[arg-type]
