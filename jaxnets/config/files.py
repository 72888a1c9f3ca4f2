"""Imports config files."""

import functools
import hashlib
import importlib.util
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path

from ml_collections import config_dict

from jaxnets.errors import ConfigError, closest, suggest
from jaxnets.io import project_folder


def apply_variant(
    config: config_dict.ConfigDict,
    name: str,
    variant: str,
    variants: Mapping[str, Callable[[config_dict.ConfigDict], None]],
) -> config_dict.ConfigDict:
    """Applies a variant of a config file and names the config NAME:VARIANT.

    Raises ConfigError for an unknown variant.
    """
    if variant not in variants:
        raise ConfigError(
            f"{name}: unknown variant {variant!r}{suggest(variant, variants)}; "
            f"variants: {', '.join(variants)}"
        )
    variants[variant](config)
    config.name = f"{name}:{variant}"
    return config


def import_config(spec: str) -> config_dict.ConfigDict:
    """Returns the config of `PATH` or `PATH:VARIANT` without further checks.

    PATH is a file, or the name of one in ./configs or among the configs of this package. Raises ConfigError
    if the file or variant does not exist or the file is not a config file.
    """
    name, _, variant = spec.partition(":")
    folders = (Path("configs"), project_folder("configs"))
    candidates = [Path(name), *(folder / f"{name}.py" for folder in folders if Path(name).name == name)]
    path = next((path for path in candidates if path.is_file()), None)
    if path is None:
        raise ConfigError(f"config file {name!r} not found{_config_files(name)}")
    try:
        module = import_file(path)
        get_config = getattr(module, "get_config", None)
        if get_config is None:
            raise ConfigError(f"{path} is not a config file: get_config() is missing")
        return get_config(variant) if variant else get_config()
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{path} is not a valid config: {type(error).__name__}: {error}") from error


def import_file(path: Path) -> types.ModuleType:
    """Returns the module of a Python file, which may import files of its folder: `from . import _lung`.

    The file is executed once per process unless it changes.
    """
    return _import_file(path.resolve(), path.read_bytes())


@functools.cache
def _import_file(path: Path, source: bytes) -> types.ModuleType:
    package = f"_configs_{hashlib.sha256(bytes(path.parent)).hexdigest()[:8]}"
    if package not in sys.modules:
        sys.modules[package] = types.ModuleType(package)
        sys.modules[package].__path__ = [str(path.parent)]
    spec = importlib.util.spec_from_file_location(f"{package}.{path.stem}", path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    # Not the loader's bytecode cache, which misses a change of the same size within a second.
    exec(compile(source, path, "exec"), vars(module))
    return module


def _config_files(path: str) -> str:
    """Returns a hint for a missing config file: the nearest name, or all files of its folder."""
    is_name = Path(path).name == path
    folder = project_folder("configs") if is_name else Path(path).parent
    files = {file.stem: file.stem if is_name else file for file in sorted(folder.glob("[!_]*.py"))}
    if not files:
        return f"; {folder}/ does not contain any: pass a name such as lung_resnet"
    if found := closest(Path(path).stem, files):
        return f" (did you mean {files[found]}?)"
    return f"; there are {', '.join(files)}" if is_name else f"; {folder}/ contains {', '.join(files)}"
