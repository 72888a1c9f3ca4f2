"""The tables of parity, and the errors that they show."""

import json
from pathlib import Path

import pytest

from jaxnets import models
from jaxnets.errors import ConfigError
from studies.pages import parity_table
from studies.pages.parity_table import ERRORS, KERAS, LIMITS, NUMBERS, OTHER_LIMITS, PYTORCH, TIMM, ParityRow


def _row(library: str, network: str, pixels: int, variant: str | None = None, **errors: float) -> ParityRow:
    return ParityRow(library=library, network=network, variant=variant, pixels=pixels, errors=errors)


def test_tables_by_library_and_image_size(tmp_path: Path) -> None:
    assert parity_table.pytorch_rows(tmp_path, large=False) == []
    rows = [
        _row(KERAS, "resnet50", 64, "keras", logits=2.8e-15),
        _row(TIMM, "resnet50", 64, "keras", logits=1e-16),
        _row(KERAS, "vgg16", 224, logits=3e-15),
        _row(PYTORCH, "resnet50", 224, gradient=6.2e-13),
        _row(PYTORCH, "resnet50", 64, "torchvision", float32=2.6e-6, logits=6.5e-15),
        _row(PYTORCH, "lenet5", 28, training=1e-10),
    ]
    (tmp_path / NUMBERS).write_text(json.dumps(rows))
    assert parity_table.pytorch_rows(tmp_path, large=False) == [
        LIMITS,
        ("LeNet-5, 28", "", "", "1.0e-10", "", ""),
        ("ResNet-50, 64", "2.6e-6", "6.5e-15", "", "", ""),
    ]
    assert parity_table.pytorch_rows(tmp_path, large=True)[1:] == [
        ("ResNet-50, 224", "", "", "", "", "6.2e-13")
    ]
    assert parity_table.other_rows(tmp_path) == [
        OTHER_LIMITS,
        ("ResNet-50, `keras`, 64", "2.8e-15", "", "", "", "1.0e-16"),
    ]
    assert parity_table.keras_rows(tmp_path)[1:] == [("VGG-16, 224", "3.0e-15")]
    (tmp_path / NUMBERS).write_text("{}x")
    with pytest.raises(ConfigError, match=r"parity\.json is not a file of studies\.pages\.parity_table"):
        parity_table.read(tmp_path)


def test_errors_of_passed_tests_replace_older_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def case(row: ParityRow, outcome: str = "") -> str:
        value = json.dumps(row).replace('"', "&quot;")
        properties = f'<properties><property name="parity" value="{value}"/></properties>'
        return f"<testcase>{properties}{outcome}</testcase>"

    newer = _row(PYTORCH, "alexnet", 32, "pool3", logits=3e-15)
    failed = case(_row(PYTORCH, "lenet5", 28, logits=1.0), "<failure/>")
    xml = f"<testsuites><testsuite>{case(newer)}{failed}<testcase/></testsuite></testsuites>"
    (tmp_path / "parity.xml").write_text(xml)
    older = _row(PYTORCH, "alexnet", 32, float32=1e-6, logits=9e-15)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / NUMBERS).write_text(json.dumps([older]))
    monkeypatch.chdir(tmp_path)
    parity_table.main(["parity.xml"])
    assert parity_table.read(tmp_path / "results") == [
        {**older, "errors": {"float32": 1e-6, "logits": 3e-15}}
    ]
    (tmp_path / "parity.xml").write_text("no XML")
    with pytest.raises(ConfigError, match="pass --junitxml=parity.xml to pytest"):
        parity_table.main(["parity.xml"])


def test_stored_errors_are_within_their_limits(repository: Path) -> None:
    rows = parity_table.read(repository / "results")
    limits = {
        PYTORCH: dict(zip(ERRORS, LIMITS[1:], strict=True)),
        KERAS: dict(zip(ERRORS[1:], OTHER_LIMITS[1:-1], strict=True)),
        TIMM: {"logits": OTHER_LIMITS[-1]},
    }
    for row in rows:
        allowed = {name: float(limit) for name, limit in limits[row["library"]].items()}
        assert all(error < allowed[name] for name, error in row["errors"].items()), row
    image_networks = {name for name, entry in models.REGISTRY.items() if entry.kind == "image"}
    assert {row["network"] for row in rows if "logits" in row["errors"]} == image_networks
