"""A process that runs one script repeatedly, so that imports and compiled programs are reused.

It reads a JSON list of arguments per line and writes a JSON list of exit code, standard output and standard
error.
"""

import contextlib
import importlib.util
import io
import json
import signal
import sys
from pathlib import Path
from typing import Any

SECONDS = 120


def _load(path: str) -> Any:
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class _HangError(BaseException):
    pass


def _run(script: Any, path: str, arguments: list[str]) -> tuple[Any, str, str]:
    from absl import flags

    from jaxnets.commands import runner

    sys.argv = [path, *arguments]
    flags.FLAGS.unparse_flags()
    for name in [name for name in flags.FLAGS if name.startswith("config.")]:
        delattr(flags.FLAGS, name)  # they are defined again for each --config
    out, err = io.StringIO(), io.StringIO()

    def stop(number: int, frame: Any) -> None:
        raise _HangError

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    code: Any = None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            runner.execute(script.main)
        except SystemExit as done:
            code = done.code
        except _HangError:
            code = "hang"
        finally:
            signal.alarm(0)
    return code, out.getvalue(), err.getvalue()


def main() -> None:
    """Runs the script given as the only argument, once per line of standard input."""
    path = sys.argv[1]
    script, output = _load(path), sys.stdout
    for line in sys.stdin:
        print(json.dumps(_run(script, path, json.loads(line))), file=output, flush=True)


if __name__ == "__main__":
    main()
