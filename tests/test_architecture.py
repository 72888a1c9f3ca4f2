"""The import rule: a folder imports only from lines above its own."""

import ast
import subprocess
import sys
from pathlib import Path

LINES = (
    {"errors"},
    {"io", "schema", "reported"},
    {"runtime"},
    {"config", "ops"},
    {"models", "data"},
    {"interop"},
    {"training"},
    {"evaluation"},
    {"experiment"},
    {"commands"},
)
FORBIDDEN = {"tensorflow", "torch", "torchvision", "timm", "keras"}


def _imports(path: Path) -> set[str]:
    """Dotted names that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 or "configs" in path.parts, f"{path}: a relative import"
            names |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _rooms(names: set[str]) -> set[str]:
    return {name.split(".")[1] for name in names if name.startswith("jaxnets.")}


def _line(room: str) -> int:
    return next(number for number, rooms in enumerate(LINES) if room in rooms)


def _files(repository: Path, folder: str) -> list[Path]:
    return sorted((repository / folder).rglob("*.py"))


def test_the_rule_finds_what_breaks_it(tmp_path: Path) -> None:
    file = tmp_path / "wrong.py"
    file.write_text(
        "def f():\n    from jaxnets import training\n    from jaxnets.experiment.train import x\n"
    )
    assert {"training", "experiment"} <= _rooms(_imports(file))


def test_folders_import_only_from_lines_above(repository: Path) -> None:
    wrong = []
    for path in _files(repository, "jaxnets"):
        room = path.relative_to(repository / "jaxnets").parts[0].removesuffix(".py")
        if room == "__init__":
            continue  # the package's face hands names on
        for imported in _rooms(_imports(path)) - {room}:
            known = imported.isidentifier() and any(imported in rooms for rooms in LINES)
            if known and _line(imported) >= _line(room):
                wrong.append(f"{path.relative_to(repository)} imports {imported}")
    assert not wrong


def test_configs_import_config_alone(repository: Path) -> None:
    for path in _files(repository, "configs"):
        assert _rooms(_imports(path)) <= {"config"}, path


def test_only_scripts_import_benchmarks_and_studies(repository: Path) -> None:
    for path in [*_files(repository, "jaxnets"), *_files(repository, "configs")]:
        roots = {name.split(".")[0] for name in _imports(path)}
        assert not roots & {"benchmarks", "studies", "tests", "examples"}, path


def test_the_library_never_imports_the_oracles(repository: Path) -> None:
    reader = repository / "jaxnets" / "interop" / "weight_files.py"  # imports torch when it is called
    for path in {*_files(repository, "jaxnets"), *_files(repository, "scripts")} - {reader}:
        roots = {name.split(".")[0] for name in _imports(path)}
        assert not roots & FORBIDDEN, path


def test_tensorflow_and_torch_are_never_imported(repository: Path) -> None:
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
