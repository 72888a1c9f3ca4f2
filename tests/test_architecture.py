"""Import rules: packages import only from lower layers, and modules have no import cycles."""

import ast
import graphlib
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

LAYERS = (
    {"errors"},
    {"io", "registry", "reported", "schema"},
    {"runtime"},
    {"config", "ops"},
    {"models", "data"},
    {"interop"},
    {"training"},
    {"evaluation"},
    {"experiment"},
    {"commands"},
    {"__main__"},
)
FORBIDDEN = {"tensorflow", "torch", "torchvision", "timm", "keras", "onnxruntime", "openvino"}


def _imports(path: Path) -> set[str]:
    """Returns the dotted names that a file imports anywhere."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 or "configs" in path.parts, f"{path}: a relative import"
            names |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _packages(names: set[str]) -> set[str]:
    return {name.split(".")[1] for name in names if name.startswith("jaxnets.")}


def _layer(package: str) -> int:
    return next(number for number, packages in enumerate(LAYERS) if package in packages)


def _files(repository: Path, folder: str) -> list[Path]:
    return sorted((repository / folder).rglob("*.py"))


def test_imports_inside_functions_are_found(tmp_path: Path) -> None:
    file = tmp_path / "wrong.py"
    file.write_text(
        "def f():\n    from jaxnets import training\n    from jaxnets.experiment.train import x\n"
    )
    assert {"training", "experiment"} <= _packages(_imports(file))


def test_packages_import_only_from_lower_layers(repository: Path) -> None:
    wrong = []
    for path in _files(repository, "jaxnets"):
        package = path.relative_to(repository / "jaxnets").parts[0].removesuffix(".py")
        if package == "__init__":
            continue
        for imported in _packages(_imports(path)) - {package}:
            known = imported.isidentifier() and any(imported in packages for packages in LAYERS)
            if known and _layer(imported) >= _layer(package):
                wrong.append(f"{path.relative_to(repository)} imports {imported}")
    assert not wrong


def _graph(folder: Path) -> dict[str, set[str]]:
    """Returns the modules of a package that each module imports, by dotted name."""
    paths = {
        ".".join(path.relative_to(folder.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for path in folder.rglob("*.py")
    }
    return {module: _imported_modules(path, paths.keys()) - {module} for module, path in paths.items()}


def _imported_modules(path: Path, modules: Collection[str]) -> set[str]:
    """Returns the modules that a file imports; `from a.b import c` means a.b.c if that is a module."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            found |= {name if name in modules else str(node.module) for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & set(modules)


def _cycle(graph: dict[str, set[str]]) -> list[str]:
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def test_modules_have_no_import_cycle(repository: Path) -> None:
    assert _cycle(_graph(repository / "jaxnets")) == []


def test_import_cycle_is_found(tmp_path: Path) -> None:
    package = tmp_path / "jaxnets"
    package.mkdir()
    (package / "first.py").write_text("from jaxnets import second\n")
    (package / "second.py").write_text("def f():\n    from jaxnets.first import x\n")
    assert set(_cycle(_graph(package))) == {"jaxnets.first", "jaxnets.second"}


def test_configs_import_only_the_config_package(repository: Path) -> None:
    for path in _files(repository, "configs"):
        assert _packages(_imports(path)) <= {"config"}, path


def test_package_does_not_import_benchmarks_studies_or_tests(repository: Path) -> None:
    for path in [*_files(repository, "jaxnets"), *_files(repository, "configs")]:
        roots = {name.split(".")[0] for name in _imports(path)}
        assert not roots & {"benchmarks", "studies", "tests", "examples"}, path


def test_package_does_not_import_other_frameworks(repository: Path) -> None:
    reader = repository / "jaxnets" / "interop" / "weight_files.py"  # imports torch lazily
    for path in {*_files(repository, "jaxnets"), *_files(repository, "scripts")} - {reader}:
        roots = {name.split(".")[0] for name in _imports(path)}
        assert not roots & FORBIDDEN, path


def test_importing_the_package_does_not_load_other_frameworks(repository: Path) -> None:
    modules = [
        ".".join(path.relative_to(repository).with_suffix("").parts).removesuffix(".__init__")
        for path in _files(repository, "jaxnets")
    ]
    use = (
        "from jaxnets import config; from jaxnets.data import sources; from pathlib import Path\n"
        "c = config.default_config(); c.data.name = 'synthetic_tissue'; c.data.image_size = 16\n"
        "sources.open_source(c.data, Path('.'))[0]\n"
    )
    program = (
        f"import importlib, sys\nfor name in {modules!r}: importlib.import_module(name)\n{use}"
        f"found = {FORBIDDEN!r} & set(sys.modules)\nassert not found, found\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
