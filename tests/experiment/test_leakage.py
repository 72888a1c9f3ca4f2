"""Leakage that is reported before a run starts, and leakage that raises."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_results
import numpy as np
import pytest
from ml_collections import config_dict
from PIL import Image

from jaxnets import config as config_lib
from jaxnets.commands.split import write_split
from jaxnets.data.dataset import Dataset
from jaxnets.data.sources.synthetic_tissue import SyntheticTissue
from jaxnets.errors import ConfigError, DataError, MachineError
from jaxnets.experiment import workdir
from jaxnets.experiment.data import open_dataset, with_cache
from jaxnets.experiment.leakage import format_split, measure_leakage, report_leakage
from jaxnets.experiment.resolve import check_validation, load_config
from jaxnets.experiment.run_directory import open_run

COPIES = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of ten photographs with four variants each; groups.csv groups pairs of photographs."""
    root = tmp_path_factory.mktemp("own")
    rows = ["file,original,group"]
    for name in ("a", "b"):
        (root / "set" / name).mkdir(parents=True)
        for number in range(10 * COPIES):
            file = f"{name}/{number}.png"
            level = number + 100 * (name == "b")
            Image.new("RGB", (16, 16), (level, 2 * number, 7)).save(root / "set" / file)
            rows.append(f"{file},{name}{number // COPIES},{name}{number // (2 * COPIES)}")
    (root / "groups.csv").write_text("\n".join(rows) + "\n")
    return root


Opened = tuple[config_dict.ConfigDict, Dataset]


def _open(config: config_dict.ConfigDict) -> Opened:
    return config, with_cache(config, open_dataset(config))


@pytest.fixture
def opened(folder: Path, tmp_path: Path) -> Callable[..., Opened]:
    def opened(**fields: Any) -> Opened:
        config = config_lib.default_config()
        given = {"name": "image_folder", "path": str(folder / "set"), "image_size": 16}
        for field, value in {**given, "root": str(tmp_path), **fields}.items():
            config.data[field] = value
        config.model.name, config.train.epochs = "lenet5", 1
        config_lib.validate(config)
        return _open(config)

    return opened


@pytest.mark.parametrize("conflict", [False, True])
def test_an_image_in_two_classes_is_a_warning(
    folder: Path,
    opened: Callable[..., Opened],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    conflict: bool,
) -> None:
    shutil.copytree(folder / "set", tmp_path / "set")
    copy = tmp_path / "set" / "a" / "copy.png"  # of its own class, or of the other
    shutil.copy(tmp_path / "set" / ("b" if conflict else "a") / "3.png", copy)
    data = opened(path=str(tmp_path / "set"), allow_duplicates=True)
    capsys.readouterr()
    report_leakage(*data, measure_leakage(data[1]))
    warned = capsys.readouterr().err.splitlines()
    assert len(warned) == conflict
    if conflict:
        assert "2 images have exact duplicates in another class" in warned[0]
        assert "such as a/copy.png and b/3.png;" in warned[0]


def _format(data: Opened, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    report_leakage(*data, measure_leakage(data[1]))
    message = capsys.readouterr().out
    assert len(message.splitlines()) == 1
    return message


def test_unknown_groups_are_reported_with_a_hint(
    opened: Callable[..., Opened], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = opened()
    message = _format(data, capsys)
    assert "groups unknown; set --config.data.find_groups=True, or run" in message
    assert f"scripts/find_duplicates.py {folder / 'set'}" in message
    assert measure_leakage(data[1]).as_result() == {"test": None, "validation": None}


def _write_copies(folder: Path) -> None:
    """Writes two classes of eight images of 40 px, and their mirror images."""
    source = SyntheticTissue(16, 96, seed=5)
    for index in range(16):
        picture = Image.fromarray(source[index]["image"]).resize((40, 40), Image.Resampling.BICUBIC)
        path = folder / "ab"[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
        picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path.with_name(f"{index}mirrored.png"))


def test_groups_are_found_before_the_split_and_cached(
    opened: Callable[..., Opened], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("cv2")
    _write_copies(tmp_path / "copies")
    fields = {"path": str(tmp_path / "copies"), "find_groups": True}
    leaky = opened(**fields)
    assert "describe" in capsys.readouterr().out
    assert (measure_leakage(leaky[1]).as_result()["test"] or 0) > 0
    assert "LEAKY" in _format(leaky, capsys)
    capsys.readouterr()
    config, grouped = opened(**fields, split="grouped")
    assert "describe" not in capsys.readouterr().out  # read from the table
    assert measure_leakage(grouped).as_result() == {"test": 0.0, "validation": 0.0}
    assert grouped.group_ids is not None
    assert len(set(grouped.group_ids.tolist())) == 16
    assert format_split(config, grouped, {}) == "grouped"
    (stored,) = (tmp_path / "cache" / "near_duplicates").iterdir()
    assert stored.name.startswith("groups-")


def test_groups_are_found_in_image_files_only(
    opened: Callable[..., Opened], repository: Path, tmp_path: Path
) -> None:
    fields = {"data.path": str(tmp_path), "data.find_groups": True}
    with pytest.raises(ConfigError, match=r"data.groups=groups.csv.*leave it out"):
        load_config(
            str(repository / "configs" / "image_folder.py:scratch"), fields | {"data.groups": "groups.csv"}
        )
    with pytest.raises(ConfigError, match="the groups of synthetic_tissue are known"):
        opened(name="synthetic_tissue", find_groups=True, path=None)


def test_a_random_split_of_near_duplicates_is_leaky(
    opened: Callable[..., Opened], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = opened(groups=str(folder / "groups.csv"))
    fractions = measure_leakage(data[1]).as_result()
    assert fractions["test"] > 0.8
    message = _format(data, capsys)
    assert f"LEAKY: {100 * fractions['validation']:.1f} % of validation images" in message
    assert "(--config.data.split=grouped)" in message


def test_a_grouped_split_does_not_leak_unless_by_original(
    opened: Callable[..., Opened], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grouped = {"groups": str(folder / "groups.csv"), "split": "grouped"}
    message = _format(opened(**grouped), capsys)
    assert "0.0 % of validation images and 0.0 % of test images have a near-duplicate" in message
    assert "LEAKY" not in message
    config, by_original = opened(**grouped, group_level="original")
    assert format_split(config, by_original, {}).endswith("groups.csv, original")
    assert by_original.split.groups is not None
    assert len(set(by_original.split.groups.tolist())) == 20
    assert measure_leakage(by_original).as_result()["test"] > 0
    _, folds = opened(**grouped, folds=5, fold=4)
    assert folds.split.name == "grouped"
    assert measure_leakage(folds).as_result() == {"test": 0.0, "validation": 0.0}


def test_synthetic_tissue_has_no_near_duplicates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = config_lib.default_config()
    config.data.name, config.data.root, config.data.num_examples = (*("synthetic_tissue", str(tmp_path)), 30)
    config.model.name, config.data.image_size = "lenet5", 16
    data = _open(config)
    assert "0.0 % of test images" in _format(data, capsys)


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    """Ten images of each class, each twice."""
    for name in ("a", "b"):
        (tmp_path / "copied" / name).mkdir(parents=True)
        for number in range(10):
            image = (folder / "set" / name / f"{number}.png").read_bytes()
            (tmp_path / "copied" / name / f"{number}.png").write_bytes(image)
            (tmp_path / "copied" / name / f"again{number}.png").write_bytes(image)
    return tmp_path / "copied"


def test_exact_duplicates_across_subsets_raise_unless_allowed(
    opened: Callable[..., Opened], copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = opened(path=str(copied))
    with pytest.raises(
        DataError, match=r"leaks: test image .* is an exact duplicate of train image .*; \d+ validation"
    ):
        _format(data, capsys)
    assert "exact duplicates" in _format(opened(path=str(copied), allow_duplicates=True), capsys)


def test_exact_duplicates_in_known_groups_raise_for_a_random_split(
    opened: Callable[..., Opened], copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = sorted(path.relative_to(copied).as_posix() for path in copied.glob("*/*.png"))
    table = copied.parent / "groups.csv"
    names = [file.replace("again", "") for file in files]
    lines = [f"{file},{name},{name}" for file, name in zip(files, names, strict=True)]
    table.write_text("\n".join(["file,original,group", *lines]))
    with pytest.raises(DataError, match=r"both have one group, so use --config\.data\.split=grouped"):
        _format(opened(path=str(copied), groups=str(table)), capsys)
    message = _format(opened(path=str(copied), groups=str(table), allow_duplicates=True), capsys)
    assert "LEAKY" in message
    assert "exact duplicates" in message
    assert "exact duplicates" not in _format(
        opened(path=str(copied), groups=str(table), split="grouped"), capsys
    )
    lines = [f"{file},{file},{file}" for file in files]
    table.write_text("\n".join(["file,original,group", *lines]))
    with pytest.raises(DataError, match="the groups are wrong"):
        _format(opened(path=str(copied), groups=str(table), split="grouped"), capsys)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"folds": 2}, "must be 0 or at least 3"),
        ({"folds": 4, "fold": 4}, "must be below"),
        ({"fold": 1}, "must be below"),
    ],
)
def test_invalid_folds_raise(opened: Callable[..., Opened], wrong: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        opened(**{"split": "grouped", **wrong})


def test_write_split(
    folder: Path, repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, out = (str(repository / "configs" / "image_folder.py"), tmp_path / "new" / "at" / "split.csv")
    overrides = {"data.path": str(folder / "set"), "data.groups": str(folder / "groups.csv")}
    split = write_split(spec, {**overrides, "data.split": "grouped"}, out)
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert set(rows[0]) == {"index", "file", "label", "split", "group"}
    parts: dict[str, set[str]] = {}
    for row in rows:
        parts.setdefault(row["group"], set()).add(row["split"])
    assert len(parts) == 10
    assert all(len(sides) == 1 for sides in parts.values())
    tested = [int(row["index"]) for row in rows if row["split"] == "test"]
    np.testing.assert_array_equal(tested, split.test)
    assert "0.0 % of test images" in capsys.readouterr().out
    write_split(spec, {**overrides, "data.split": "grouped"}, out)
    with pytest.raises(ConfigError, match="exists with other content"):
        write_split(spec, {**overrides, "data.split": "random"}, out)
    out.write_bytes(b"\xff\xfe\x00 no text")
    for wrong, message in ((out, "exists with other content"), (out / "split.csv", "cannot be created")):
        with pytest.raises((ConfigError, MachineError), match=message):
            write_split(spec, {**overrides, "data.split": "grouped"}, wrong)
    assert out.read_bytes() == b"\xff\xfe\x00 no text"


def test_a_run_resumes_after_its_groups_became_known(tmp_path: Path) -> None:
    config = made_results.config_json(made_results.make_result())
    split = "index,file,label,split,group\n0,a.png,a,train,\n"
    workdir.write_files(tmp_path, {"config.json": config, "split.csv": split})
    run = open_run(tmp_path)
    run.check_split("index,file,label,split,group\n0,a.png,a,train,7\n")
    with pytest.raises(DataError, match="does not match the data"):
        run.check_split("index,file,label,split,group\n0,a.png,a,test,7\n")


def test_a_run_that_was_killed_before_its_split_was_written_is_resumed(tmp_path: Path) -> None:
    workdir.write_files(tmp_path, {"config.json": made_results.config_json(made_results.make_result())})
    open_run(tmp_path).check_split("index,file,label,split,group\n0,a.png,a,test,7\n")


@pytest.fixture
def table(folder: Path, tmp_path: Path) -> Path:
    """The folder's images as a table in which photograph b7 is both in train and in test."""
    rows = ["path,label,group,split"]
    for name in ("a", "b"):
        for number in range(10 * COPIES):
            group = f"{name}{number // COPIES}"
            part = "train" if number < 30 else "test"
            rows.append(f"set/{name}/{number}.png,{name},{group},{part}")
    (tmp_path / "table.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "table.csv"


def test_leaking_groups_of_a_table_are_reported_by_row(
    opened: Callable[..., Opened], table: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = {"name": "table", "path": str(table), "image_folders": (str(folder),), "split": "official"}
    data = opened(**fields)
    capsys.readouterr()
    with pytest.raises(DataError) as caught:
        report_leakage(*data, measure_leakage(data[1]))
    assert str(caught.value) == (
        "the official split leaks: row 32 (set/a/30.png) is in test, and row 30 (set/a/28.png) of the same "
        "group is in train; 4 test images have their group in train: give each group one split, use "
        "--config.data.split=grouped, or set --config.data.allow_duplicates=True"
    )
    message = _format(opened(**fields, allow_duplicates=True), capsys)
    assert "LEAKY: 20.0 % of test images have images of their group in training" in message


def test_the_official_split_of_published_data_is_leaky_but_allowed(
    opened: Callable[..., Opened],
    table: Path,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fields = {"name": "table", "path": str(table), "image_folders": (str(folder),), "split": "official"}
    config, data = opened(**fields)
    monkeypatch.setattr(data.source, "ships_groups", True)
    assert "LEAKY: 20.0 % of test images" in _format((config, data), capsys)


def test_exact_duplicates_in_the_split_column_raise(
    opened: Callable[..., Opened], copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"{name}/{number}.png,{name},train" for name in ("a", "b") for number in range(10)]
    rows += ["a/again3.png,a,test", "b/again0.png,b,validation"]
    table = copied / "table.csv"
    table.write_text("\n".join(["path,label,split", *rows]) + "\n")
    fields = {"name": "table", "path": str(table), "split": "official"}
    data = opened(**fields)
    capsys.readouterr()
    with pytest.raises(DataError) as caught:
        report_leakage(*data, measure_leakage(data[1]))
    assert str(caught.value) == (
        "the official split leaks: test image row 22 (a/again3.png) is an exact duplicate of train image row "
        "5 (a/3.png); 1 validation and 1 test images in total: remove one of them, give both the same "
        "split, or set --config.data.allow_duplicates=True"
    )
    message = _format(opened(**fields, allow_duplicates=True), capsys)
    assert "exact duplicates in another subset: 1 validation and 1 test images" in message


def test_groups_of_a_table_define_split_and_leakage(
    opened: Callable[..., Opened], table: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = {"name": "table", "path": str(table), "image_folders": (str(folder),)}
    _, data = opened(**fields, split="grouped")
    assert "column split is not used" in capsys.readouterr().out
    assert data.split.groups is not None
    assert data.group_ids is data.split.groups
    assert measure_leakage(data).as_result() == {"test": 0.0, "validation": 0.0}
    assert measure_leakage(opened(**fields)[1]).as_result()["test"] > 0.5
    with pytest.raises(ConfigError, match=r"groups of table are known: remove --config\.data\.groups"):
        opened(**fields, groups=str(folder / "groups.csv"))
    without = table.with_name("without.csv")
    without.write_text("".join(line.rsplit(",", 2)[0] + "\n" for line in table.read_text().splitlines()))
    with pytest.raises(
        ConfigError, match=r"those of table are unknown: add a column group to .*without\.csv"
    ):
        opened(**{**fields, "path": str(without)}, split="grouped")
    message = _format(opened(**{**fields, "path": str(without)}), capsys)
    assert "groups unknown; add a column group" in message


def test_a_split_without_validation_refuses_callbacks_that_need_it(
    opened: Callable[..., Opened], table: Path, folder: Path
) -> None:
    fields = {"name": "table", "path": str(table), "image_folders": (str(folder),), "split": "official"}
    config, data = opened(**fields)
    check_validation(config, data.split)
    config.plateau.patience = 0
    with pytest.raises(ConfigError, match=r"plateau\.patience needs validation examples, and the official"):
        check_validation(config, data.split)
    config, data = opened(**fields, validation_fraction=0.2)
    config.plateau.patience = 0
    check_validation(config, data.split)
