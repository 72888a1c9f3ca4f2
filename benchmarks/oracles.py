"""The implementations that ours must equal: PyTorch's own and the reports' listings, in tests/oracles/."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from jaxnets.config import nearest
from jaxnets.errors import ConfigError

FOLDER = Path(__file__).parents[1] / "tests" / "oracles"
TORCH = "torch==2.13.0"
NETWORKS = ("torchvision", "timm")
"""Where PyTorch's networks are."""


def has_torch() -> bool:
    """Whether PyTorch is installed; it is not imported."""
    return importlib.util.find_spec("torch") is not None


def require_networks() -> None:
    """Raises ConfigError where PyTorch is installed without the libraries of its networks."""
    for name in NETWORKS if has_torch() else ():
        if importlib.util.find_spec(name) is None:
            raise ConfigError(f"PyTorch is here without {name}: pip install -e '.[oracles]'")


def load(name: str, folder: Path = FOLDER) -> ModuleType:
    """The module tests/oracles/NAME.py, imported once.

    It is not part of the installed package: raises ConfigError outside a checkout.
    """
    path = folder / f"{name}.py"
    if not path.is_file():
        names = sorted(file.stem for file in folder.glob("*.py"))
        what = f"no oracle {name!r}{nearest(name, names)}" if names else f"{folder} is not there"
        raise ConfigError(f"{what}: run the bench from a checkout of the repository")
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
