"""Copies configs/ and the scripts that need only the package into a wheel; pyproject.toml has the rest."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
SCRIPTS = (
    *("train", "evaluate", "predict", "export", "import_weights", "prepare_data", "find_duplicates", "split"),
    *("summary", "build_kernels", "cross_validate"),
)


class BuildPy(build_py):
    """Builds the package; an editable install needs no copies."""

    def run(self) -> None:
        """Copies the files after those of the package."""
        super().run()
        if self.editable_mode:
            return
        configs, scripts = (
            (ROOT / "configs").glob("*.py"),
            (ROOT / "scripts" / f"{name}.py" for name in SCRIPTS),
        )
        for folder, files in {"_configs": configs, "_scripts": scripts}.items():
            target = Path(self.build_lib) / "jaxnets" / folder
            target.mkdir(exist_ok=True)
            for file in files:
                shutil.copy(file, target)


setup(cmdclass={"build_py": BuildPy})
