"""What a run does not use: the schema says it, the program does it, and the user hears of it."""

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
from rich.console import Console

from jaxnets import config as config_lib
from jaxnets import models
from jaxnets.config import conditions, reset_unused
from jaxnets.data import sources
from jaxnets.data.splits import make_split
from jaxnets.errors import ConfigError
from jaxnets.experiment import run_files
from jaxnets.experiment.resolve import check_batch_norm, load_config
from jaxnets.experiment.resolve import load_config_or_demo as resolve
from jaxnets.experiment.run_directory import open_run_if_exists
from jaxnets.models import inception_v3
from jaxnets.registry import NETWORKS, SOURCES
from jaxnets.runtime.console import Reporter
from jaxnets.training.callbacks import make_callbacks
from jaxnets.training.devices import Devices
from jaxnets.training.loss import make_loss
from jaxnets.training.optimizer import make_optimizer, make_schedule
from studies import result_archive, sweeps
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
"""A value of each field that is not its default, and that the networks which have it take."""


def make_config(**changes: Any) -> config_dict.ConfigDict:
    """A recipe with changes by path, `__` for a dot."""
    config = config_lib.default_config()
    config.model.name, config.data.name = "alexnet", "mnist"
    config.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
    return config


def changed(config: config_dict.ConfigDict, path: str, value: Any) -> config_dict.ConfigDict:
    copy = config.copy_and_resolve_references()
    config_lib.set_field(copy, path, value)
    return copy


def fields(prefix: str) -> list[str]:
    return [path for path in OTHER if path.startswith(prefix)]


# The schema against the program.


@pytest.mark.parametrize("name", models.REGISTRY)
@pytest.mark.parametrize("path", [*fields("model."), "model.variant"])
def test_a_network_s_module_follows_the_fields_that_it_uses(name: str, path: str) -> None:
    config = make_config(model__name=name, model__num_classes=3)
    other = (models.entry(name).variants or ("none",))[-1] if path == "model.variant" else OTHER[path]
    plain = models.create(config.model, axis_name="data")
    try:
        built = models.create(changed(config, path, other).model, axis_name="data")
    except ConfigError:  # an option that the network does not have
        built = plain
    if name == "inception_v3" and path.startswith("model.auxiliary"):
        config.data.image_size = conditions.AUXILIARY_SIZE
    assert (built != plain) is (path not in config_lib.unused(config)), (
        f"jaxnets/models builds {name} {'with' if built != plain else 'without'} {path}, and "
        f"jaxnets/config/fields.py says it is used where {config_lib.FIELDS[path].used.description}"
    )


def test_the_schema_knows_every_network_and_source() -> None:
    assert set(NETWORKS) == set(models.REGISTRY)
    assert set(SOURCES) == set(sources.TITLES)
    assert conditions.AUXILIARY_SIZE == inception_v3.AUXILIARY_SIZE
    for name, entry in models.REGISTRY.items():
        images = "data.image_size" not in config_lib.unused(make_config(model__name=name))
        assert images is (entry.kind == "image"), name


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_is_opened_by_the_fields_that_it_uses(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for opener in (
        "synthetic_tissue.SyntheticTissue",
        "image_folder.ImageFolder",
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
    left_out = config_lib.unused(make_config(data__name=name))
    assert not read & set(left_out)
    for path in ("data.path", "data.num_examples", "data.synthetic_seed"):
        assert (path in read) is (path not in left_out), path


@pytest.mark.usefixtures("optax_promotion")
@pytest.mark.parametrize("path", fields("optimizer."))
@pytest.mark.parametrize("momentum", [0.9, 0.0])
@pytest.mark.parametrize("decay", [0.0, 0.2])
@pytest.mark.parametrize("name", config_lib.FIELDS["optimizer.name"].choices)
def test_an_optimizer_s_updates_follow_the_fields_that_it_uses(
    name: str, decay: float, momentum: float, path: str
) -> None:
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

    differs = bool((values(config) != values(changed(config, path, OTHER[path]))).any())
    assert differs is (path not in config_lib.unused(config))


@pytest.mark.parametrize("path", fields("schedule."))
@pytest.mark.parametrize("name", config_lib.FIELDS["schedule.name"].choices)
def test_a_schedule_follows_the_fields_that_it_uses(name: str, path: str) -> None:
    config = make_config(schedule__name=name, schedule__decay_every_steps=4)

    def values(config: config_dict.ConfigDict) -> list[float]:
        schedule = make_schedule(config, total_steps=20, steps_per_epoch=5)
        return [float(schedule(step)) for step in range(20)]

    differs = values(config) != values(changed(config, path, OTHER[path]))
    assert differs is (path not in config_lib.unused(config))


class Labelled:
    """A source of labels alone, with a split of its own."""

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
]


def _divided(config: config_dict.ConfigDict) -> list[list[int]]:
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
def test_a_split_follows_the_fields_that_it_uses(split: Mapping[str, Any], path: str) -> None:
    config = make_config(**{name.replace(".", "__"): value for name, value in split.items()})
    differs = _divided(config) != _divided(changed(config, path, OTHER[path]))
    assert differs is (path not in config_lib.unused(config))


@pytest.mark.parametrize("split", SPLITS, ids=str)
def test_the_schema_knows_whether_a_part_validates(split: Mapping[str, Any]) -> None:
    config = make_config(**{name.replace(".", "__"): value for name, value in split.items()})
    validates = "early_stopping.patience" not in config_lib.unused(config)
    assert validates is bool(_divided(config)[1])


def _inside(thing: Any) -> Any:
    """All that hooks hold, in values that can be compared."""
    if isinstance(thing, list | tuple):
        return [_inside(one) for one in thing]
    if type(thing).__module__.startswith("jaxnets"):
        return type(thing).__name__, {name: _inside(one) for name, one in vars(thing).items()}
    return thing


@pytest.mark.parametrize("patience", [None, 2])
@pytest.mark.parametrize("fraction", [0.0, 0.1])
@pytest.mark.parametrize("path", [*fields("plateau."), *fields("early_stopping."), "monitor.metric"])
def test_callbacks_depend_on_the_fields_that_they_use(
    path: str, fraction: float, patience: int | None
) -> None:
    config = make_config(data__split="official", data__validation_fraction=fraction)
    config.plateau.patience = config.early_stopping.patience = patience

    def callbacks(config: config_dict.ConfigDict) -> Any:
        return _inside(make_callbacks(config, Console(), is_process_zero=False, has_validation=fraction > 0))

    differs = callbacks(config) != callbacks(changed(config, path, OTHER[path]))
    assert differs is (path not in config_lib.unused(config))


@pytest.mark.parametrize("path", ["train.label_smoothing", "train.class_weights"])
@pytest.mark.parametrize("loss", config_lib.FIELDS["train.loss"].choices)
def test_a_loss_follows_the_fields_that_it_uses(loss: str, path: str) -> None:
    config = make_config(train__loss=loss)

    def value(config: config_dict.ConfigDict) -> float:
        logits, targets = jnp.array([[1.0, 2.0, -1.0]]), jnp.array([[0.0, 1.0, 0.0]])
        return float(make_loss(config.train)(logits, targets, jnp.ones(1)).total)

    differs = value(config) != value(changed(config, path, OTHER[path]))
    assert differs is (path not in config_lib.unused(config))


# What the user hears.


TABLE = refusal_table_page
COLUMNS = [(title, name) for title in TABLE.GROUPS for name in TABLE.GROUPS[title]]


@pytest.mark.parametrize(("title", "name"), COLUMNS)
def test_every_field_that_is_not_used_is_refused_in_one_line(title: str, name: str) -> None:
    config = TABLE.columns(title)[name]
    left_out = config_lib.unused(config)
    for path, field in config_lib.FIELDS.items():
        if path not in left_out:
            reset_unused(config.copy_and_resolve_references(), {path})
            continue
        with pytest.raises(ConfigError) as refused:
            reset_unused(config.copy_and_resolve_references(), {path})
        assert str(refused.value).startswith(f"--config.{path}={config_lib.get_field(config, path)} is")
        assert "\n" not in str(refused.value)
        assert left_out[path].remedy, path
        without = config.copy_and_resolve_references()
        reset_unused(without)
        assert config_lib.get_field(without, path) == field.default
        assert path in config_lib.unused(without), "leaving out changes what is used"


def test_a_table_has_a_line_a_field_and_a_column_a_config() -> None:
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
        (
            "lung_densenet",
            {"model.width": 64},
            "name=densenet121: set --config.model.name=resnet50",
        ),
        ("lung_densenet", {"data.validation_fraction": 0.1}, "split=grouped"),
        ("lung_resnet:demo", {"data.path": "x"}, "name=synthetic_tissue"),
        ("lung_resnet", {"data.path": "x"}, "data.path=x is not used"),  # auto is neither of both
        ("lung_resnet", {"optimizer.beta1": 0.9}, "name=sgd: set --config.optimizer.name=adam"),
        (
            "lung_resnet",
            {"transfer.freeze_backbone": False},
            "set --config.transfer.weights=FOLDER",
        ),
        ("lung_resnet", {"eval.ema": True}, "set --config.train.ema_decay=0.999"),
        (
            "lung_resnet",
            {"log.tensorboard": False, "log.histograms_every_epochs": 1},
            "tensorboard",
        ),
        ("lung_inception_v3", {"train.auxiliary_weight": 0.4}, "set --config.data.image_size=299"),
        ("mlp_tanh", {"augment.flip_horizontal": True}, "data.name=points: choose data of images"),
        ("mlp_tanh", {"optimizer.nesterov": True}, "set --config.optimizer.momentum=0.9"),
    ],
)
def test_what_the_user_sets_and_the_run_does_not_use_is_refused(
    config: str, overrides: Mapping[str, Any], message: str
) -> None:
    name, _, variant = config.partition(":")
    spec = f"{CONFIGS / name}.py" + (f":{variant}" if variant else "")
    with pytest.raises(ConfigError, match=message):
        config_lib.load_config(spec, overrides)


def test_what_a_file_sets_for_another_choice_is_left_out() -> None:
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
    assert (frozen.transfer.backbone_lr_multiplier, frozen.transfer.head_only_epochs) == (
        1.0,
        None,
    )


def test_what_only_another_network_has_is_left_out_or_refused() -> None:
    alexnet = str(CONFIGS / "alexnet_cifar10.py")
    other = {"model.name": "resnet50", "data.image_size": 32}
    made = load_config(alexnet, other)
    assert (made.model.variant, made.entry) == (None, None)
    with pytest.raises(ConfigError, match="ResNet-50 has the variants"):
        load_config(alexnet, {**other, "model.variant": "pool3"})
    with pytest.raises(ConfigError, match="entry=C/alexnet is not comparable .*name=resnet50"):
        load_config(alexnet, {**other, "entry": "C/alexnet"})
    assert load_config(alexnet, {"entry": "C/alexnet"}).entry == "C/alexnet"


def test_a_field_of_the_demo_alone_may_be_set_where_the_source_is_open(tmp_path: Path) -> None:
    nowhere = {"data.root": str(tmp_path)}
    config = resolve(
        str(CONFIGS / "lung_resnet.py"), {**nowhere, "data.num_examples": 90}, Reporter(quiet=True)
    )
    assert (config.name, config.data.num_examples) == ("lung_resnet:demo", 90)
    with pytest.raises(ConfigError, match="falling back to .*:demo: --config.data.folds=3 is not used"):
        resolve(str(CONFIGS / "lung_resnet.py"), {**nowhere, "data.folds": 3}, Reporter(quiet=True))


def test_a_config_without_its_pretrained_weights_says_how_to_get_them() -> None:
    for variant in ("transfer", "finetune"):
        with pytest.raises(ConfigError, match="import_weights.py hub:timm/resnet50") as refused:
            config_lib.load_config(f"{CONFIGS / 'lung_resnet.py'}:{variant}")
        assert "transfer.freeze_backbone" not in str(refused.value)


# The repository's own recipes, and what was stored before.


def _variants() -> Iterator[str]:
    for path in sorted(CONFIGS.glob("[!_]*.py")):
        try:
            config_lib.import_config(f"{path}:none of them")
        except ConfigError as error:
            for variant in str(error).partition("variants: ")[2].split(", "):
                yield f"{path.stem}:{variant}"


@pytest.mark.parametrize("spec", list(_variants()))
def test_no_variant_sets_a_field_that_it_does_not_use(spec: str) -> None:
    name, _, variant = spec.partition(":")
    config = config_lib.import_config(f"{CONFIGS / name}.py:{variant}")
    if variant in ("transfer", "finetune"):
        config.transfer.weights = "random"
    used = config_lib.used_fields(config)
    assert config_lib.differences(config, used) == {}


def test_there_are_variants() -> None:
    assert len(list(_variants())) > 40


@pytest.mark.parametrize("path", sorted((CONFIGS / "sweeps").glob("[!_]*.py")), ids=lambda p: p.stem)
def test_table_rows_match_the_configs_of_their_stored_results(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPOSITORY)
    for row in sweeps.read_table(str(path)):
        result_archive.finished_result(
            REPOSITORY / "results" / row.name, row.config
        )  # raises for another recipe


def test_a_run_from_before_is_the_same_config(tmp_path: Path) -> None:
    spec = str(CONFIGS / "lenet_mnist.py")
    before = config_lib.import_config(spec)
    before.early_stopping.patience = 5  # which was left out without a word
    before.optimizer.nesterov = True
    (tmp_path / run_files.CONFIG).write_text(config_lib.to_json(before))
    begun = open_run_if_exists(tmp_path)
    assert begun is not None
    begun.check_config(config_lib.load_config(spec))
    with pytest.raises(ConfigError, match=r"train.epochs: 10 -> 3\)"):
        begun.check_config(config_lib.load_config(spec, {"train.epochs": 3}))


def test_a_refusal_does_not_wait_for_jax() -> None:
    program = (
        "import sys\nfrom jaxnets import config\n"
        f"try: config.load_config({str(CONFIGS / 'lung_densenet.py')!r}, {{'model.width': 8}})\n"
        "except Exception as error: print(error)\nassert 'jax' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "model.width=8 is not used" in done.stdout


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
def test_a_batch_of_one_image_is_refused_before_anything_is_compiled(
    changes: Mapping[str, Any], devices: Devices
) -> None:
    spec = f"{CONFIGS / 'lung_resnet.py'}:smoke"
    begun = {"train.drop_last": False, "train.batch_size": 20, **changes}
    examples = 41 if "train.batch_size" not in changes else 40
    with pytest.raises(ConfigError, match="drop_last=True"):
        check_batch_norm(config_lib.load_config(spec, begun), 3, examples, devices)
    larger = {**begun, "data.image_size": 64}  # the last stage has four pixels
    check_batch_norm(config_lib.load_config(spec, larger), 3, examples, devices)
    for without in (
        {**begun, "train.drop_last": True, "train.batch_size": 20, "train.grad_accum_steps": 1},
        {"train.batch_size": 20, "train.drop_last": False, "model.name": "lenet5"},
        {**begun, "transfer.weights": "random", "transfer.freeze_backbone": True},
    ):
        check_batch_norm(config_lib.load_config(spec, without), 3, examples, devices)
