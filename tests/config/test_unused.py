"""Unused config fields: the schema matches the code, and setting them raises."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import config_dict

from jaxnets import config as config_lib
from jaxnets import models
from jaxnets.config import conditions, reset_unused
from jaxnets.data import sources
from jaxnets.data.splits import make_split
from jaxnets.errors import ConfigError
from jaxnets.experiment import sweep, workdir
from jaxnets.experiment.resolve import check_batch_norm, load_config
from jaxnets.experiment.resolve import load_config_or_demo as resolve
from jaxnets.experiment.run_directory import open_run_if_exists
from jaxnets.models import inception_v3
from jaxnets.registry import NETWORKS, SOURCES
from jaxnets.training.callbacks import make_callbacks
from jaxnets.training.devices import Devices
from jaxnets.training.loss import make_loss
from jaxnets.training.optimizer import make_optimizer, make_schedule
from studies import sweeps
from studies.pages import refusal_table as refusal_table_page

REPOSITORY = Path(__file__).parents[2]
CONFIGS = REPOSITORY / "configs"
OTHER: Mapping[str, Any] = {
    "model.num_classes": 7,
    "model.init": "flax",
    "model.auxiliary_heads": False,
    "model.auxiliary_dropout": 0.5,
    "model.truncate_after": "mixed7a",
    "model.stage_sizes": (1, 1, 1, 1),
    "model.width": 8,
    "model.layer_sizes": (3, 5, 4, 1),
    "model.activations": ("relu", "relu", "relu"),
    "model.activation": "tanh",
    "model.pooling": "average",
    "model.kernel_size": 3,
    "model.dropout": 0.5,
    "model.stochastic_depth": 0.5,
    "model.dtype": "float64",
    "model.compute_dtype": "bfloat16",
    "model.implementation": "xla",
    "model.sync_batch_norm": False,
    "data.fractions": (0.6, 0.2, 0.2),
    "data.validation_fraction": 0.2,
    "data.split_seed": 3,
    "data.folds": 4,
    "data.fold": 1,
    "train.label_smoothing": 0.1,
    "train.class_weights": (1.0, 2.0, 3.0),
    "optimizer.momentum": 0.5,
    "optimizer.nesterov": True,
    "optimizer.beta1": 0.5,
    "optimizer.beta2": 0.9,
    "optimizer.epsilon": 0.01,
    "optimizer.weight_decay": 0.1,
    "optimizer.decoupled_weight_decay": True,
    "schedule.warmup_steps": 5,
    "schedule.decay_every_steps": 3,
    "schedule.decay_factor": 0.7,
    "schedule.final_fraction": 0.5,
    "plateau.patience": 3,
    "plateau.factor": 0.5,
    "plateau.cooldown": 2,
    "plateau.min_delta": 0.1,
    "plateau.min_scale": 0.2,
    "early_stopping.patience": 4,
    "early_stopping.min_delta": 0.1,
    "monitor.metric": "validation_accuracy",
}
"""A valid value of each field that differs from its default."""


def make_config(**changes: Any) -> config_dict.ConfigDict:
    """Returns a config with changes by path, `__` for a dot."""
    config = config_lib.default_config()
    config.model.name, config.data.name = "alexnet", "mnist"
    config.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
    return config


def with_field(config: config_dict.ConfigDict, path: str, value: Any) -> config_dict.ConfigDict:
    copy = config.copy_and_resolve_references()
    config_lib.set_field(copy, path, value)
    return copy


def fields(prefix: str) -> list[str]:
    return [path for path in OTHER if path.startswith(prefix)]


# The schema compared with the code.


@pytest.mark.parametrize("name", models.REGISTRY)
@pytest.mark.parametrize("path", [*fields("model."), "model.variant"])
def test_networks_use_the_fields_in_the_schema(name: str, path: str) -> None:
    config = make_config(model__name=name, model__num_classes=3)
    other = (models.entry(name).variants or ("none",))[-1] if path == "model.variant" else OTHER[path]
    plain = models.create(config.model, axis_name="data")
    try:
        built = models.create(with_field(config, path, other).model, axis_name="data")
    except ConfigError:  # an option that the network does not have
        built = plain
    if name == "inception_v3" and path.startswith("model.auxiliary"):
        config.data.image_size = conditions.AUXILIARY_SIZE
    assert (built != plain) is (path not in config_lib.unused(config)), (
        f"jaxnets/models builds {name} {'with' if built != plain else 'without'} {path}, and "
        f"jaxnets/config says it is used where {config_lib.FIELDS[path].used.description}"
    )


def test_schema_lists_every_network_and_source() -> None:
    assert set(NETWORKS) == set(models.REGISTRY)
    assert set(SOURCES) == set(sources.TITLES)
    assert conditions.AUXILIARY_SIZE == inception_v3.AUXILIARY_SIZE
    for name, entry in models.REGISTRY.items():
        images = "data.image_size" not in config_lib.unused(make_config(model__name=name))
        assert images is (entry.kind == "image"), name


@pytest.mark.parametrize("name", SOURCES)
def test_sources_use_the_fields_in_the_schema(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for opener in (
        "synthetic_tissue.SyntheticTissue",
        "image_folder.ImageFolder",
        "table.Table",
        "tfds.TFDSSource",
        "points.Points",
        "mnist.MNIST",
        "cifar10.CIFAR10",
        "lc25000.LC25000Lung",
    ):
        monkeypatch.setattr(f"jaxnets.data.sources.{opener}.__init__", lambda *_, **__: None)
    monkeypatch.setattr("jaxnets.data.sources.base.PreparedSource.locate", lambda root: root)
    read: set[str] = set()

    class Reading:
        def __getattr__(self, field: str) -> Any:
            read.add(f"data.{field}")
            return name if field == "name" else config_lib.FIELDS[f"data.{field}"].default or "x"

    sources.open_source(Reading(), Path())  # type: ignore[arg-type]
    unused = config_lib.unused(make_config(data__name=name))
    of_sources = {field for source in SOURCES.values() for field in source.fields}
    fields_of_sources = [f"data.{field}" for field in of_sources - {"image_size", "max_pixels"}]
    assert not read & set(unused)
    for path in fields_of_sources:
        assert (path in read) is (path not in unused), path


@pytest.mark.usefixtures("optax_promotion")
@pytest.mark.parametrize("path", fields("optimizer."))
@pytest.mark.parametrize("momentum", [0.9, 0.0])
@pytest.mark.parametrize("decay", [0.0, 0.2])
@pytest.mark.parametrize("name", config_lib.FIELDS["optimizer.name"].choices)
def test_optimizers_use_the_fields_in_the_schema(name: str, decay: float, momentum: float, path: str) -> None:
    config = make_config(optimizer__name=name, optimizer__weight_decay=decay)
    if momentum != 0.9 and name == "sgd":
        config.optimizer.momentum = momentum

    def values(config: config_dict.ConfigDict) -> np.ndarray:
        rule = make_optimizer(config, optax.constant_schedule(0.1))
        params = jnp.array([1.0, -3.0])
        state, seen = rule.init(params), []
        for step in range(1, 4):
            update, state = rule.update(jnp.array([step * 0.5, -1.0]), state, params)
            params = optax.apply_updates(params, update)
            seen.append(np.asarray(params))
        return np.stack(seen)

    differs = bool((values(config) != values(with_field(config, path, OTHER[path]))).any())
    assert differs is (path not in config_lib.unused(config))


@pytest.mark.parametrize("path", fields("schedule."))
@pytest.mark.parametrize("name", config_lib.FIELDS["schedule.name"].choices)
def test_schedules_use_the_fields_in_the_schema(name: str, path: str) -> None:
    config = make_config(schedule__name=name, schedule__decay_every_steps=4)

    def values(config: config_dict.ConfigDict) -> list[float]:
        schedule = make_schedule(config, total_steps=20, steps_per_epoch=5)
        return [float(schedule(step)) for step in range(20)]

    differs = values(config) != values(with_field(config, path, OTHER[path]))
    assert differs is (path not in config_lib.unused(config))


class Labelled:
    """A source with labels only and an official split."""

    name, kind, classes = "labelled", "image", ("a", "b", "c")
    labels = np.arange(120) % 3
    official_split: Mapping[str, np.ndarray] = {"train": np.arange(90), "test": np.arange(90, 120)}


SPLITS = [
    {"data.split": "random"},
    {"data.split": "random", "data.fractions": (0.8, 0.0, 0.2)},
    {"data.split": "official"},
    {"data.split": "official", "data.validation_fraction": 0.1},
    {"data.split": "grouped"},
    {"data.split": "grouped", "data.fractions": (0.8, 0.0, 0.2)},
    {"data.split": "grouped", "data.folds": 3},
    {"data.split": "random", "data.folds": 3},
]


def _split_indices(config: config_dict.ConfigDict) -> list[list[int]]:
    data = config.data
    split = make_split(
        Labelled(),  # type: ignore[arg-type]
        data.split,
        fractions=data.fractions,
        validation_fraction=data.validation_fraction,
        seed=data.split_seed,
        groups=np.arange(120) // 2,
        folds=data.folds,
        fold=data.fold,
    )
    return [part.tolist() for part in split.parts().values()]


@pytest.mark.parametrize("split", SPLITS, ids=str)
@pytest.mark.parametrize("path", fields("data."))
def test_splits_use_the_fields_in_the_schema(split: Mapping[str, Any], path: str) -> None:
    config = make_config(**{name.replace(".", "__"): value for name, value in split.items()})
    differs = _split_indices(config) != _split_indices(with_field(config, path, OTHER[path]))
    assert differs is (path not in config_lib.unused(config))


@pytest.mark.parametrize("split", SPLITS, ids=str)
def test_schema_knows_whether_there_is_a_validation_split(split: Mapping[str, Any]) -> None:
    config = make_config(**{name.replace(".", "__"): value for name, value in split.items()})
    validates = "early_stopping.patience" not in config_lib.unused(config)
    assert validates is bool(_split_indices(config)[1])


def _comparable(thing: Any) -> Any:
    """Returns the contents of callbacks as comparable values."""
    if isinstance(thing, list | tuple):
        return [_comparable(one) for one in thing]
    if type(thing).__module__.startswith("jaxnets"):
        return type(thing).__name__, {name: _comparable(one) for name, one in vars(thing).items()}
    return thing


@pytest.mark.parametrize("patience", [None, 2])
@pytest.mark.parametrize("fraction", [0.0, 0.1])
@pytest.mark.parametrize("path", [*fields("plateau."), *fields("early_stopping."), "monitor.metric"])
def test_callbacks_use_the_fields_in_the_schema(path: str, fraction: float, patience: int | None) -> None:
    config = make_config(data__split="official", data__validation_fraction=fraction)
    config.plateau.patience = config.early_stopping.patience = patience

    def callbacks(config: config_dict.ConfigDict) -> Any:
        return _comparable(make_callbacks(config, is_process_zero=False, has_validation=fraction > 0))

    differs = callbacks(config) != callbacks(with_field(config, path, OTHER[path]))
    assert differs is (path not in config_lib.unused(config))


@pytest.mark.parametrize("path", ["train.label_smoothing", "train.class_weights"])
@pytest.mark.parametrize("loss", config_lib.FIELDS["train.loss"].choices)
def test_losses_use_the_fields_in_the_schema(loss: str, path: str) -> None:
    config = make_config(train__loss=loss)

    def value(config: config_dict.ConfigDict) -> float:
        logits, targets = jnp.array([[1.0, 2.0, -1.0]]), jnp.array([[0.0, 1.0, 0.0]])
        return float(make_loss(config.train)(logits, targets, jnp.ones(1)).total)

    differs = value(config) != value(with_field(config, path, OTHER[path]))
    assert differs is (path not in config_lib.unused(config))


# Error messages.


TABLE = refusal_table_page
COLUMNS = [(title, name) for title in TABLE.GROUPS for name in TABLE.GROUPS[title]]


@pytest.mark.parametrize(("title", "name"), COLUMNS)
def test_every_unused_field_raises_a_one_line_error(title: str, name: str) -> None:
    config = TABLE.columns(title)[name]
    unused = config_lib.unused(config)
    for path, field in config_lib.FIELDS.items():
        if path not in unused:
            reset_unused(config.copy_and_resolve_references(), {path})
            continue
        with pytest.raises(ConfigError) as error_info:
            reset_unused(config.copy_and_resolve_references(), {path})
        assert str(error_info.value).startswith(f"--config.{path}={config_lib.get_field(config, path)} is")
        assert "\n" not in str(error_info.value)
        assert unused[path].remedy, path
        without = config.copy_and_resolve_references()
        reset_unused(without)
        assert config_lib.get_field(without, path) == field.default
        assert path in config_lib.unused(without), "resetting a field changes which fields are used"


def test_unused_fields_table_has_a_row_per_field_and_a_column_per_config() -> None:
    text = TABLE.unused_fields_table(TABLE.columns("Optimizers"))
    assert "| `optimizer.nesterov` | optimizer.momentum is above 0 |  | x | x | x |" in text
    assert TABLE.page().count("\n## ") == len(TABLE.GROUPS)
    listed = {line.split("`")[1] for line in TABLE.page().splitlines() if line.startswith("| `")}
    sometimes = {path for path, field in config_lib.FIELDS.items() if field.used.description != "always"}
    assert sometimes == listed


@pytest.mark.parametrize(
    ("config", "overrides", "message"),
    [
        ("lenet_mnist:adam", {"early_stopping.patience": 5}, "there is no validation split"),
        ("lenet_mnist:adam", {"eval.use_best": True}, "set --config.data.validation_fraction=0.1"),
        ("lenet_mnist:adam", {"plateau.patience": 0}, "patience=0 is not used"),
        ("lenet_mnist:sgd", {"eval.every_epochs": 1}, "not used"),
        ("lenet_mnist:adam", {"data.fractions": (0.8, 0.1, 0.1)}, "split=official"),
        ("lung_densenet", {"model.width": 64}, "name=densenet121: set --config.model.name=resnet50"),
        ("lung_densenet", {"data.validation_fraction": 0.1}, "split=grouped"),
        ("lung_resnet:demo", {"data.path": "x"}, "name=synthetic_tissue"),
        ("lung_resnet", {"data.path": "x"}, "data.path=x is not used"),  # data.name is auto
        ("lung_resnet", {"optimizer.beta1": 0.9}, "name=sgd: set --config.optimizer.name=adam"),
        ("lung_resnet", {"transfer.freeze_backbone": False}, "set --config.transfer.weights=FOLDER"),
        ("lung_resnet", {"eval.ema": True}, "set --config.train.ema_decay=0.999"),
        ("lung_resnet", {"log.tensorboard": False, "log.histograms_every_epochs": 1}, "tensorboard"),
        ("lung_inception_v3", {"train.auxiliary_weight": 0.4}, "set --config.data.image_size=299"),
        ("mlp_tanh", {"augment.flip_horizontal": True}, "data.name=points: choose data of images"),
        ("mlp_tanh", {"optimizer.nesterov": True}, "set --config.optimizer.momentum=0.9"),
    ],
)
def test_setting_an_unused_field_raises(config: str, overrides: Mapping[str, Any], message: str) -> None:
    name, _, variant = config.partition(":")
    config_path = f"{CONFIGS / name}.py" + (f":{variant}" if variant else "")
    with pytest.raises(ConfigError, match=message):
        config_lib.load_config(config_path, overrides)


def test_unused_fields_of_config_files_are_reset() -> None:
    adam = config_lib.load_config(str(CONFIGS / "lung_resnet.py"), {"optimizer.name": "adam"})
    assert (adam.optimizer.nesterov, adam.optimizer.momentum) == (False, 0.9)
    plain = config_lib.load_config(str(CONFIGS / "lung_resnet.py"), {"optimizer.momentum": 0.0})
    assert plain.optimizer.nesterov is False
    random = config_lib.load_config(
        str(CONFIGS / "resnet_cifar10.py"), {"data.split": "random", "eval.every_epochs": 2}
    )
    assert random.data.validation_fraction == 0.0
    frozen = config_lib.load_config(
        f"{CONFIGS / 'lung_resnet.py'}:finetune",
        {"transfer.weights": "random", "transfer.freeze_backbone": True},
    )
    assert (frozen.transfer.backbone_lr_multiplier, frozen.transfer.head_only_epochs) == (1.0, None)


def test_variant_and_entry_of_another_network_are_reset_or_raise() -> None:
    alexnet = str(CONFIGS / "alexnet_cifar10.py")
    other = {"model.name": "resnet50", "data.image_size": 32}
    config = load_config(alexnet, other)
    assert (config.model.variant, config.entry) == (None, None)
    with pytest.raises(ConfigError, match="ResNet-50 has the variants"):
        load_config(alexnet, {**other, "model.variant": "pool3"})
    with pytest.raises(ConfigError, match="entry=C/alexnet is not comparable .*name=resnet50"):
        load_config(alexnet, {**other, "entry": "C/alexnet"})
    assert load_config(alexnet, {"entry": "C/alexnet"}).entry == "C/alexnet"


def test_demo_fields_may_be_set_if_the_demo_is_the_fallback(tmp_path: Path) -> None:
    nowhere = {"data.root": str(tmp_path)}
    config = resolve(str(CONFIGS / "lung_resnet.py"), {**nowhere, "data.num_examples": 90})
    assert (config.name, config.data.num_examples) == ("lung_resnet:demo", 90)
    with pytest.raises(
        ConfigError, match="falling back to .*:demo: --config.data.group_level=original is not"
    ):
        resolve(str(CONFIGS / "lung_resnet.py"), {**nowhere, "data.group_level": "original"})


def test_missing_pretrained_weights_name_the_import_command() -> None:
    for variant in ("transfer", "finetune"):
        with pytest.raises(ConfigError, match="import_weights.py hub:timm/resnet50") as error_info:
            config_lib.load_config(f"{CONFIGS / 'lung_resnet.py'}:{variant}")
        assert "transfer.freeze_backbone" not in str(error_info.value)


# Shipped configs and stored runs.


def _variants() -> Iterator[str]:
    for path in sorted(CONFIGS.glob("[!_]*.py")):
        try:
            config_lib.import_config(f"{path}:none of them")
        except ConfigError as error:
            for variant in str(error).partition("variants: ")[2].split(", "):
                yield f"{path.stem}:{variant}"


@pytest.mark.parametrize("config_path", list(_variants()))
def test_variants_set_only_used_fields(config_path: str) -> None:
    name, _, variant = config_path.partition(":")
    config = config_lib.import_config(f"{CONFIGS / name}.py:{variant}")
    if variant in ("transfer", "finetune"):
        config.transfer.weights = "random"
    used = config_lib.used_fields(config)
    assert config_lib.differences(config, used) == {}


def test_variants_are_found() -> None:
    assert len(list(_variants())) > 40


@pytest.mark.parametrize("path", sorted((CONFIGS / "sweeps").glob("[!_]*.py")), ids=lambda p: p.stem)
def test_table_rows_match_the_configs_of_their_stored_results(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPOSITORY)
    rows = sweeps.read_table(str(path))
    folders = [REPOSITORY / "results" / row.name for row in rows]
    found = [  # raises for another config
        sweep.finished_result(folder, row.config) for folder, row in zip(folders, rows, strict=True)
    ]
    assert [result is not None for result in found] == [folder.is_dir() for folder in folders]


def test_stored_results_are_those_of_the_tables() -> None:
    names = {
        row.name for path in (CONFIGS / "sweeps").glob("[!_]*.py") for row in sweeps.read_table(str(path))
    }
    stored = {path.parent.name for path in (REPOSITORY / "results").glob("*/result.json")}
    assert len(stored) >= 73
    assert stored <= names


def test_older_run_with_unused_fields_has_the_same_config(tmp_path: Path) -> None:
    config_path = str(CONFIGS / "lenet_mnist.py")
    before = config_lib.import_config(config_path)
    before.early_stopping.patience = 5  # unused
    before.optimizer.nesterov = True
    workdir.write_files(tmp_path, {workdir.CONFIG: config_lib.to_json(before)})
    run = open_run_if_exists(tmp_path)
    assert run is not None
    run.check_config(config_lib.load_config(config_path))
    with pytest.raises(ConfigError, match=r"train.epochs: 10 -> 3\)"):
        run.check_config(config_lib.load_config(config_path, {"train.epochs": 3}))


def test_unused_field_raises_before_importing_jax() -> None:
    program = (
        "import sys\nfrom jaxnets import config\n"
        f"try: config.load_config({str(CONFIGS / 'lung_densenet.py')!r}, {{'model.width': 8}})\n"
        "except Exception as error: print(error)\nassert 'jax' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "model.width=8 is not used" in done.stdout


def _check_batch_norm(
    config_path: str, overrides: Mapping[str, Any], examples: int, devices: Devices
) -> None:
    config = config_lib.load_config(config_path, overrides)
    model = models.create(config.model, axis_name=devices.axis_name)
    check_batch_norm(config, model, 3, examples, devices)


ONE = Devices(count=1, local_count=1, process_index=0, process_count=1)
TWO = Devices(count=2, local_count=2, process_index=0, process_count=1)


@pytest.mark.parametrize(
    ("changes", "devices"),
    [
        ({}, ONE),
        ({"train.batch_size": 4, "train.grad_accum_steps": 4}, ONE),
        ({"train.batch_size": 2, "model.sync_batch_norm": False}, TWO),
    ],
)
def test_batch_of_one_image_raises_before_compilation(changes: Mapping[str, Any], devices: Devices) -> None:
    config_path = f"{CONFIGS / 'lung_resnet.py'}:smoke"
    overrides = {"train.drop_last": False, "train.batch_size": 20, **changes}
    examples = 41 if "train.batch_size" not in changes else 40
    with pytest.raises(ConfigError, match="drop_last=True"):
        _check_batch_norm(config_path, overrides, examples, devices)
    larger = {**overrides, "data.image_size": 64}  # the last stage has four pixels
    _check_batch_norm(config_path, larger, examples, devices)
    for without in (
        {**overrides, "train.drop_last": True, "train.batch_size": 20, "train.grad_accum_steps": 1},
        {"train.batch_size": 20, "train.drop_last": False, "model.name": "lenet5"},
        {**overrides, "transfer.weights": "random", "transfer.freeze_backbone": True},
    ):
        _check_batch_norm(config_path, without, examples, devices)
