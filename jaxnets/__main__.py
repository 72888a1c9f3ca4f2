"""Runs a script: jaxnets train --config=lung_resnet:demo, or python -m jaxnets train ..."""

from jaxnets.errors import suggest
from jaxnets.runtime import signals

signals.install()  # before the slow imports

import ast
import importlib.metadata
import runpy
import sys

from jaxnets.io import project_folder


def main() -> None:
    """Runs the script that the first argument names; the others are its arguments."""
    scripts = {path.stem: path for path in sorted(project_folder("scripts").glob("*.py"))}
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in scripts:
        sys.argv = [str(scripts[name]), *arguments]
        runpy.run_path(sys.argv[0], run_name="__main__")
    elif name in ("-h", "--help", "help"):
        print("usage: jaxnets COMMAND [arguments]; jaxnets COMMAND --help lists its flags\n")
        for name, path in scripts.items():
            docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
            print(f"  {name:<16}  {docstring.partition(':')[0]}")
    elif name == "--version":
        print(f"jaxnets {importlib.metadata.version('jaxnets')}")
    else:
        print(f"jaxnets: no command {name!r}{suggest(name, scripts)}; see jaxnets --help", file=sys.stderr)
        signals.leave(2)


if __name__ == "__main__":
    main()
