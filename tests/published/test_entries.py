"""The published numbers, as printed."""

import json
from pathlib import Path

import pytest

from jaxnets import published
from jaxnets.errors import ConfigError

FOLDER = Path(published.__file__).parent


def test_the_entries_are_there() -> None:
    assert set(published.names()) == {
        *("A/inception_v1", "A/resnet50", "A/inception_resnet_v2"),
        *("B/resnet50", "B/inception_v1", "B/inception_v3", "B/densenet121"),
        *("C/lenet5", "E/lenet5", "C/alexnet", "E/alexnet"),
    }
    assert published.entry("A/resnet50")["result"]["accuracy_percent"] == 98


def test_an_unknown_entry_is_said() -> None:
    with pytest.raises(ConfigError, match="A/resnet50"):
        published.entry("A/resnet")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda p: p.stem)
def test_sources_are_named_by_report_alone(path: Path) -> None:
    def sources(value: object) -> list[str]:
        if isinstance(value, dict):
            own = [value["source"]] if isinstance(value.get("source"), str) else []
            return own + [s for child in value.values() for s in sources(child)]
        return [s for child in value for s in sources(child)] if isinstance(value, list) else []

    assert set(sources(json.loads(path.read_text()))) <= {f"report {letter}" for letter in "ABCDE"}
