"""Loading, validating and comparing configs."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxnets import config as config_lib
from jaxnets import reported
from jaxnets.errors import ConfigError

LUNG = str(Path(__file__).parent.parent / "configs" / "lung_resnet.py")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"modle.name": "resnet50"}, "did you mean model.name"),
        ({"learning_rate": 0.1}, "did you mean optimizer.learning_rate"),
        ({"train.batch_size": 0}, "at least 1"),
        ({"optimizer.learning_rate": -0.1}, "above 0"),
        ({"optimizer.learning_rate": float("nan")}, "finite"),
        ({"optimizer.name": "adamm"}, "did you mean adam"),
        ({"data.fractions": (0.5, 0.2, 0.2)}, "add up to 1"),
        ({"data.std": (0.5, 0.0, 0.5)}, "at least 1e-06"),
        ({"train.epochs": 1, "train.steps": 5}, "set the same duration"),
        ({"train.batch_size": 10, "train.grad_accum_steps": 3}, "not a multiple"),
        ({"schedule.name": "step"}, "decay_every_epochs"),
        ({"model.compute_dtype": "float16"}, "bfloat16"),
        ({"train.batch_size": "many"}, "batch_size"),
        ({"seed": None}, "not None"),
        ({"model.activations": ("tanh", "tanhh")}, "'tanhh' is not one of .*did you mean tanh"),
        ({"model.activations": ("tanh,relu",)}, r"quotes and brackets: \"\('tanh','relu'\)\""),
        ({"model.activations": ("tanh", 1.0)}, "1.0 is not one of tanh"),
        ({"model.layer_sizes": (3, 0, 1)}, "at least 1"),
        ({"model.layer_sizes": (3, 4.5, 1)}, "must be integers"),
        ({"model.layer_sizes": ("tanh",)}, "must be numbers"),
        ({"model.init": "publishd"}, "did you mean published"),
        ({"optimizer.name": "adamw"}, "AdamW is adam with --config.optimizer.decoupled_weight_decay=True"),
        ({"train.batch_size": None}, "it must be an integer, not None"),
        ({"train.epochs": "ten"}, "epochs='ten' is invalid: it must be an integer, or None"),
        ({"train": 3}, "train is a group of fields: set one"),
        (
            {"optimizer.momentum": 0.0, "optimizer.nesterov": True},
            "nesterov=True is not used because --config.optimizer.momentum=0.0",
        ),
        (
            {"train.class_weights": ("balanced",), "train.balanced_sampling": True},
            "class_weights=.*'balanced'.* and --config.train.balanced_sampling=True both correct",
        ),
        ({"train.class_weights": ("balance",)}, "all elements must be numbers, or it must be balanced"),
        ({"train.class_weights": ("balanced", 1.0)}, "all elements must be numbers, or it must be balanced"),
        ({"data.classes": ("a", "b")}, "classes=.* is not used because --config.data.name=lc25000_lung"),
        (
            {"data.name": "table", "data.path": "t.csv", "data.classes": (1, 2)},
            r"classes=\(1, 2\) is out of range: all elements must be text",
        ),
        ({"train.loss": "half_squared_error", "augment.cutmix": 0.2}, "cutmix=.* is not used"),
        (
            {"train.loss": "sum_squared_error", "train.class_weights": (1.0, 2.0, 1.0)},
            "class_weights=.* is not used.* set --config.train.loss=cross_entropy",
        ),
        (
            {"train.loss": "mean_squared_error", "train.label_smoothing": 0.1},
            "label_smoothing=.* is not used.* set --config.train.loss=cross_entropy",
        ),
        (
            {"train.loss": "half_squared_error", "augment.mixup": 0.2},
            "mixup=.* is not used.* set --config.train.loss=cross_entropy",
        ),
        ({"eval.dropout": True}, "set --config.model.name=lenet5, alexnet or vgg16"),
        ({"eval.dropout": True, "model.name": "lenet5"}, "set --config.model.dropout=0.5"),
        (
            {"eval.augment": True, "augment.flip_horizontal": False, "augment.flip_vertical": False}
            | {"augment.right_angles": False, "augment.mixup": 0.2},
            "set --config.augment.flip_horizontal",
        ),
        ({"eval.every_steps": 0}, "eval.every_steps=0 .* at least 1"),
        ({"checkpoint.every_epochs": 0}, "at least 1"),
        ({"log.histograms_every_examples": 0}, "at least 1"),
        ({"schedule.decay_every_epochs": 0}, "at least 1"),
        ({"train.steps": 0}, "at least 1"),
        ({"optimizer.beta2": 1.0}, "must be below 1"),
        ({"train.ema_decay": 1.0}, "must be below 1"),
    ],
)
def test_invalid_override_names_the_field_and_a_fix(overrides: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config_lib.load_config(LUNG, overrides)


@pytest.mark.parametrize(
    ("config_path", "message"),
    [
        (LUNG + ":skratch", "did you mean scratch"),
        (LUNG.replace("resnet", "resent"), "did you mean .*lung_resnet.py"),
        (LUNG.replace("lung_resnet", "nothing"), "/ contains alexnet_cifar10, .*, lung_resnet"),
        ("lung_resent:demo", r"'lung_resent' not found \(did you mean lung_resnet\?"),
        ("nothing", "there are alexnet_cifar10, .*, lung_resnet"),
        ("nowhere/lung_resnet.py", "nowhere/ does not contain any"),
        (__file__, "get_config.. is missing"),
    ],
)
def test_wrong_config_name_suggests_the_nearest(config_path: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config_lib.load_config(config_path)


def test_a_config_file_is_read_again_after_a_change_within_a_second(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    for epochs in (1, 2):
        path.write_text(
            "from jaxnets.config import default_config\n\n\ndef get_config():\n"
            f"    config = default_config()\n    config.train.epochs = {epochs}\n    return config\n"
        )
        os.utime(path, (0, 0))
        assert config_lib.import_config(str(path)).train.epochs == epochs


def test_a_name_is_a_file_in_configs_or_one_of_this_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert config_lib.import_config("lung_resnet:demo").name == "lung_resnet:demo"
    (tmp_path / "configs").mkdir()
    own = "from jaxnets.config import default_config as get_config\n"
    (tmp_path / "configs" / "lung_resnet.py").write_text(own)
    assert config_lib.import_config("lung_resnet").name == config_lib.default_config().name


def test_none_unsets_an_optional_field() -> None:
    config = config_lib.load_config(LUNG, {"train.steps": 7, "transfer.pretrained_on": None, "entry": None})
    assert (config.train.steps, config.entry, config.transfer.pretrained_on) == (7, None, None)
    with pytest.raises(ConfigError, match="training duration is not set"):
        config_lib.load_config(LUNG, {"train.epochs": None})


def test_override_replaces_the_unit_of_a_duration() -> None:
    config = config_lib.load_config(LUNG, {"train.steps": 7})
    assert (config.train.steps, config.train.epochs, config.train.examples) == (7, None, None)


@given(epochs=st.integers(1, 50), batch_size=st.integers(1, 64), per_epoch=st.integers(1, 1000))
def test_durations_agree_between_units(epochs: int, batch_size: int, per_epoch: int) -> None:
    by_unit = {}
    for unit, amount in zip(
        config_lib.UNITS, (epochs * per_epoch, epochs, epochs * per_epoch * batch_size), strict=True
    ):
        config = config_lib.default_config()
        config_lib.set_field(config, "train.batch_size", batch_size)
        config_lib.set_field(config, f"train.{unit}", amount)
        by_unit[unit] = config_lib.steps(config, "train.", per_epoch)
    assert set(by_unit.values()) == {epochs * per_epoch}


@given(examples=st.integers(1, 200_000), batch_size=st.integers(1, 1024))
def test_examples_are_rounded_up_to_steps(examples: int, batch_size: int) -> None:
    config = config_lib.default_config()
    config_lib.set_field(config, "train.batch_size", batch_size)
    config_lib.set_field(config, "train.examples", examples)
    taken = config_lib.steps(config, "train.", steps_per_epoch=1)
    assert taken is not None
    assert (taken - 1) * batch_size < examples <= taken * batch_size


def test_json_round_trip() -> None:
    config = config_lib.load_config(LUNG, {"data.fractions": (0.6, 0.2, 0.2), "seed": 3})
    assert config_lib.differences(config_lib.from_json(config_lib.to_json(config)), config) == {}


def test_tuples_of_strings_round_trip_through_json() -> None:
    config = config_lib.load_config(LUNG.replace("lung_resnet", "mlp_tanh"))
    config.model.activations = ("relu", "identity")
    assert config_lib.from_json(config_lib.to_json(config)).model.activations == ("relu", "identity")


def test_differences_name_fields_and_values() -> None:
    first, second = config_lib.load_config(LUNG), config_lib.load_config(LUNG, {"seed": 5})
    assert config_lib.differences(first, second) == {"seed": (0, 5)}


def test_config_is_locked() -> None:
    with pytest.raises(AttributeError):
        config_lib.default_config().train.bach_size = 3


@pytest.mark.parametrize("path", sorted(Path(LUNG).parent.glob("[!_]*.py")), ids=lambda p: p.stem)
def test_shipped_configs_and_variants_are_valid(path: Path) -> None:
    config = config_lib.load_config(str(path))
    assert config.name.split(":")[0] == path.stem
    assert path.read_text().startswith('"""')
    with pytest.raises(ConfigError) as error_info:
        config_lib.load_config(f"{path}:none of them")
    for variant in str(error_info.value).partition("variants: ")[2].split(", "):
        weights = {"transfer.weights": "random"} if variant in ("transfer", "finetune") else {}
        assert config_lib.load_config(f"{path}:{variant}", weights).name == f"{path.stem}:{variant}"


def test_data_root_is_from_the_config_or_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_lib.default_config()
    monkeypatch.delenv("JAXNETS_DATA", raising=False)
    assert config_lib.data_root(config) == Path("data")
    monkeypatch.setenv("JAXNETS_DATA", "/somewhere")
    assert config_lib.data_root(config) == Path("/somewhere")
    config.data.root = "/here"
    assert config_lib.data_root(config) == Path("/here")


@pytest.mark.parametrize(
    "name", ["resnet", "inception_v1", "inception_v3", "inception_resnet_v2", "densenet"]
)
@pytest.mark.parametrize("variant", ["scratch", "transfer"])
def test_notes_name_a_report_only_for_comparable_configs(name: str, variant: str) -> None:
    weights = {"transfer.weights": "random"} if variant == "transfer" else {}
    config = config_lib.load_config(LUNG.replace("resnet", name) + f":{variant}", weights)
    assert ("report A gives" in config.note) is (variant == "scratch" and config.entry is not None)
    assert ("report B gives" in config.note) is (variant == "transfer" and config.entry is not None)
    assert ("no report" in config.note) is (config.entry is None)
    if config.entry is not None:
        entry = reported.entry(config.entry)
        assert entry["epochs"] == config.train.epochs
        assert entry["config"]["batch_size"] in (None, config.train.batch_size)


@pytest.mark.parametrize(
    ("file", "variant", "entry"),
    [
        ("lenet_mnist", "adam", "C/lenet5"),
        ("lenet_mnist", "sgd", "E/lenet5"),
        ("alexnet_cifar10", "adam", "C/alexnet"),
        ("alexnet_cifar10", "sgd", "E/alexnet"),
    ],
)
def test_configs_of_reports_match_their_entries(file: str, variant: str, entry: str) -> None:
    config = config_lib.load_config(LUNG.replace("lung_resnet", file) + f":{variant}")
    printed = reported.entry(entry)
    theirs = printed["config"]
    assert (config.entry, config.model.name) == (entry, printed["model"])
    assert config.model.variant == printed["variant"]
    assert (config.model.init, config.train.loss) == ("torch", "cross_entropy")
    rule = config.optimizer
    assert (rule.name, rule.learning_rate) == (theirs["optimizer"], theirs["learning_rate"])
    assert rule.weight_decay == (theirs["weight_decay"] or 0)
    if rule.name == "sgd":
        assert (rule.momentum, rule.nesterov) == (theirs["momentum"], theirs["nesterov"])
    else:
        assert (rule.beta1, rule.beta2) == (0.9, 0.999)
    assert (config.schedule.name, theirs["learning_rate_schedule"]) == ("constant", None)
    assert (config.train.batch_size, config.train.epochs) == (theirs["batch_size"], theirs["epochs"])
    assert config.train.drop_last is theirs["drop_last"]
    assert list(config.data.mean) == theirs["normalisation"]["mean"]
    assert list(config.data.std) == theirs["normalisation"]["std"]
    augmentation = {one["name"]: one for one in theirs["augmentation"] or ()}
    augmented = {name: value for name, value in config.augment.items() if value}
    assert augmented.pop("flip_horizontal", False) is ("random_horizontal_flip" in augmentation)
    assert augmented.pop("crop_padding", 0) == augmentation.get("random_crop", {}).get("padding", 0)
    assert not augmented
    assert config.model.dropout == (0.5 if "dropout" in theirs else 0.0)
    assert config.eval.augment is theirs["test_set_augmented"]
    assert config.eval.dropout is ("dropout" in theirs and not theirs["eval_mode_at_test"])
