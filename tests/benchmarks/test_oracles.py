"""Loading reference implementations."""

from pathlib import Path

import pytest

from benchmarks import oracles
from jaxnets.errors import ConfigError


def test_an_oracle_is_imported_once(tmp_path: Path) -> None:
    (tmp_path / "fortytwo.py").write_text("value = object()\n")
    assert oracles.load("fortytwo", tmp_path) is oracles.load("fortytwo", tmp_path)


def test_a_module_that_fails_is_not_cached(tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    file.write_text("raise ImportError('no such library')\n")
    with pytest.raises(ImportError, match="no such library"):
        oracles.load("broken", tmp_path)
    file.write_text("value = 1\n\n")
    assert oracles.load("broken", tmp_path).value == 1


def test_an_unknown_oracle_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean lenet5"):
        oracles.load("lenet")


def test_outside_a_checkout_it_raises(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="from a checkout"):
        oracles.load("lenet5", tmp_path / "absent")


def test_has_torch_does_not_import_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(oracles.importlib.util, "find_spec", lambda name: asked.append(name))
    assert not oracles.has_torch()
    assert asked == ["torch"]
