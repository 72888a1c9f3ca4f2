"""The entries of the reports' results."""

import json
from pathlib import Path

import pytest

from jaxnets import reported
from jaxnets.errors import ConfigError

FOLDER = Path(reported.__file__).parent


def test_all_entries_exist() -> None:
    assert set(reported.names()) == {
        *("A/inception_v1", "A/resnet50", "A/inception_resnet_v2"),
        *("B/resnet50", "B/inception_v1", "B/inception_v3", "B/densenet121"),
        *("C/lenet5", "E/lenet5", "C/alexnet", "E/alexnet"),
        *("A/mlp_tanh", "B/mlp_relu"),
    }
    assert reported.entry("A/resnet50")["result"]["accuracy_percent"] == 98


@pytest.mark.parametrize(
    ("name", "activations"),
    [("A/mlp_tanh", ("tanh", "tanh", "tanh")), ("B/mlp_relu", ("relu", "relu", "tanh"))],
)
def test_mlp_entries_describe_the_network(name: str, activations: tuple[str, ...]) -> None:
    entry = reported.entry(name)
    assert (entry["model"], entry["data"], entry["report"]) == ("mlp", "points", name[0])
    assert entry["layer_sizes"] == (3, 4, 4, 1)
    assert entry["activations"] == activations


def test_alexnet_variants_match_the_entries() -> None:
    variants = {name: reported.entry(name)["variant"] for name in reported.VARIANTS}
    assert variants == {"C/alexnet": "pool3", "E/alexnet": "pool2"}
    windows = {
        name: reported.entry(name)["architecture"]["layers_computed"][2]["kernel"] for name in variants
    }
    assert {name: f"pool{window}" for name, window in windows.items()} == variants


def test_unknown_entry_raises() -> None:
    with pytest.raises(ConfigError, match="A/resnet50"):
        reported.entry("A/resnet")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda p: p.stem)
def test_sources_are_reports(path: Path) -> None:
    def sources(value: object) -> list[str]:
        if isinstance(value, dict):
            own = [value["source"]] if isinstance(value.get("source"), str) else []
            return own + [s for child in value.values() for s in sources(child)]
        return [s for child in value for s in sources(child)] if isinstance(value, list) else []

    assert set(sources(json.loads(path.read_text()))) <= {f"report {letter}" for letter in "ABCDE"}
