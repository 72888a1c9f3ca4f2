"""Loads reference implementations from tests/oracles/: PyTorch networks and the reports' listings."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from jaxnets.errors import ConfigError, suggest

FOLDER = Path(__file__).parents[1] / "tests" / "oracles"
TORCH = "torch==2.13.0"
NETWORKS = ("torchvision", "timm")
"""Libraries of PyTorch networks."""


def has_torch() -> bool:
    """Returns whether PyTorch is installed, without importing it."""
    return importlib.util.find_spec("torch") is not None


def check_torch_libraries() -> None:
    """Raises ConfigError if PyTorch is installed without torchvision or timm."""
    for name in NETWORKS if has_torch() else ():
        if importlib.util.find_spec(name) is None:
            raise ConfigError(f"PyTorch is installed without {name}: pip install -e '.[oracles]'")


def load(name: str, folder: Path = FOLDER) -> ModuleType:
    """Returns the module tests/oracles/NAME.py, imported once; raises ConfigError outside a checkout."""
    path = folder / f"{name}.py"
    if not path.is_file():
        names = sorted(file.stem for file in folder.glob("*.py"))
        what = f"no oracle {name!r}{suggest(name, names)}" if names else f"{folder} does not exist"
        raise ConfigError(f"{what}: run the benchmarks from a checkout of the repository")
    module_name = f"jaxnets_oracles_{name}"
    if module_name not in sys.modules:
        spec = importlib.util.spec_from_file_location(module_name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[module_name]
            raise
    return sys.modules[module_name]
