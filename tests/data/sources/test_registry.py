"""The registry of data sources: the package's own, others from outside, and what opening one imports."""

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

from jaxnets import config as config_lib
from jaxnets.data import sources
from jaxnets.data.sources.points import Points
from jaxnets.errors import ConfigError
from jaxnets.registry import SOURCES


@pytest.mark.parametrize("name", sources.TITLES)
def test_every_source_can_be_imported(name: str) -> None:
    source = pkgutil.resolve_name(f"jaxnets.data.sources.{SOURCES[name].path}")
    assert (source.name, sources.TITLES[name]) == (name, SOURCES[name].title)
    assert bool(sources.disclaimer(name)) == (name == "lc25000_lung")


def test_a_source_from_outside_is_opened_by_its_factory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sources, "TITLES", dict(sources.TITLES))
    monkeypatch.setattr(sources, "_registered", {})
    monkeypatch.setattr(sources, "MEDICAL", set(sources.MEDICAL))
    seen = []

    def factory(config, root):
        seen.append((config.name, root))
        return Points()

    sources.register("mine", factory, title="my points")
    config = config_lib.default_config().data
    config.name = "mine"
    assert isinstance(sources.open_source(config, tmp_path), Points)
    assert seen == [("mine", tmp_path)]
    assert sources.TITLES["mine"] == "my points"
    assert sources.disclaimer("mine") == ""
    sources.register("scans", factory, medical=True)
    assert "Not a medical device" in sources.disclaimer("scans")
    sources.register("mine", factory)  # such as in a notebook
    with pytest.raises(ValueError, match="'mnist' is a data source of jaxnets"):
        sources.register("mnist", factory)


def test_unknown_names_are_refused_with_the_nearest(tmp_path: Path) -> None:
    config = config_lib.default_config().data
    config.name = "mnits"
    with pytest.raises(ConfigError, match="unknown data source 'mnits'.*mnist.*; there are synthetic_tissue"):
        sources.open_source(config, tmp_path)


def test_opening_a_source_imports_no_other() -> None:
    program = (
        "import sys; from pathlib import Path; from jaxnets import config; from jaxnets.data import sources\n"
        "data = config.default_config().data; data.name = 'mnist'\n"
        "try: sources.open_source(data, Path('nowhere'))\n"
        "except Exception as error: print(type(error).__name__)\n"
        "print(*sorted(name for name in sys.modules if name.startswith('jaxnets.data.')))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    error, modules = done.stdout.splitlines()
    assert error == "DataError"
    sources_of = [f"jaxnets.data.sources{name}" for name in ("", ".base", ".mnist")]
    assert modules.split() == ["jaxnets.data.batch", *sources_of]
