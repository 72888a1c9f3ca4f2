"""Runs a script: parses flags, prints errors as one line, and sets the exit code."""

import contextlib
import os
import re
import shlex
import signal
import sys
import sysconfig
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from absl import flags, logging
from ml_collections import config_flags

from jaxnets import config as config_lib
from jaxnets.errors import ConfigError, JaxnetsError, suggest
from jaxnets.io import (
    DISK_FULL,
    NOT_WRITABLE,
    command,
    printable,
    printable_lines,
    project_folder,
    user_cache_folder,
)
from jaxnets.runtime import console, signals, xla

SHOW_TRACEBACK = flags.DEFINE_bool("traceback", False, "Print the traceback of an error.")
KEEP_FREED_MEMORY = flags.DEFINE_bool(
    "keep_freed_memory",
    True,
    "Do not return freed memory to the system (glibc): faster on CPUs, more memory.",
)
KERNELS = flags.DEFINE_bool(
    "kernels", True, "Use the C++ kernels on CPUs; the first start builds them if there is a C++ compiler."
)
KERNELS_FOLDER = flags.DEFINE_string(
    "kernels_folder", None, "Folder of the C++ kernels (~/.cache/jaxnets/kernels)."
)
COMPILATION_CACHE = flags.DEFINE_string(
    "compilation_cache", "auto", "Folder of JAX's compilation cache, auto or none."
)
IMPORT = flags.DEFINE_list(
    "import", [], "Python files to execute first, such as one that registers the network of a run."
)
_HELP = {"-h", "-help", "--help", "--helpshort", "--helpfull"}
CONFIG = "config"
_CONFIG_PREFIX = f"--{CONFIG}."
BUG = 1


def execute(
    main: Callable[[Sequence[str]], None],
    *,
    with_kernels: bool = True,
    before_jax: Callable[[], None] = lambda: None,
) -> NoReturn:
    """Parses the flags, calls `main` with the positional arguments, and exits.

    `before_jax` is called after the flags are parsed and before JAX is imported. A JaxnetsError is printed as
    one line on standard error and sets its exit code; any other exception is a bug: a traceback and exit
    code 1. `runtime.signals` handles signals.
    """
    xla.collect_garbage_rarely()
    logging.set_verbosity(logging.ERROR)
    # Warnings that have no effect: Pillow's of odd metadata, JAX's of an unwritable cache.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")
    console.show()
    try:
        if _HELP & set(sys.argv[1:]):
            print(_help(), flush=True)
            signals.leave(0)
        arguments = parse_flags(sys.argv)
        _import_files(IMPORT.value)
        if CONFIG in flags.FLAGS and flags.FLAGS[CONFIG].value is not None:  # report its errors early
            config_lib.load_config(*parse_config_flag())
        xla.set_safe_flags(os.environ)
        before_jax()
        with _prepared_jax(with_kernels):
            main(arguments[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        sys.stderr.close()
        signals.leave(signals.EXIT_CODE + signal.SIGPIPE)
    except Exception as error:
        _leave(*_cause(error))
    signals.leave(0)


@contextlib.contextmanager
def _prepared_jax(with_kernels: bool) -> Iterator[None]:
    if KEEP_FREED_MEMORY.value:
        xla.retain_freed_memory()
    xla.enable_compilation_cache(COMPILATION_CACHE.value)
    if not (with_kernels and KERNELS.value):
        yield
        return
    from jaxnets.ops.cpu_kernels import background  # imports JAX

    with background.enabled(kernels_folder()):
        yield


def _import_files(names: Sequence[str]) -> None:
    for name in names:
        if not Path(name).is_file():
            raise ConfigError(f"--import={name} is not a file")
        try:
            config_lib.import_file(Path(name))
        except Exception as error:
            raise ConfigError(f"--import={name}: {type(error).__name__}: {error}") from error


def define_ignore_damage() -> flags.FlagHolder[bool]:
    """Defines --ignore_damage, of the scripts that read run directories."""
    return flags.DEFINE_bool(
        "ignore_damage", False, "Use a run directory although checksums of files do not match."
    )


def check_no_arguments(arguments: Sequence[str]) -> None:
    """Raises ConfigError for positional arguments."""
    if arguments:
        raise ConfigError(f"unexpected argument {arguments[0]!r}: options are given as --name=value")


def shared_flags() -> list[str]:
    """The common flags given on the command line, to pass on to a child script."""
    of_every_script = flags.FLAGS.flags_by_module_dict()[__name__]
    return [flag.serialize() for flag in of_every_script if flag.present]


def kernels_folder() -> Path:
    """--kernels_folder, or the default in the user's cache folder."""
    return Path(KERNELS_FOLDER.value or user_cache_folder() / KERNELS.name)


def command_line() -> str:
    """The command, quoted for a shell."""
    script = Path(sys.argv[0])
    program = ["jaxnets", script.stem] if script.parent.name == "_scripts" else ["python", sys.argv[0]]
    return shlex.join([*program, *sys.argv[1:]])


def parse_config_flag() -> tuple[str, dict[str, Any]]:
    """The value of --config, `PATH` or `PATH:VARIANT`, and the --config.FIELD values by field.

    A value of None unsets its field. Raises ConfigError for a missing --config or an invalid value.
    """
    spec = flags.FLAGS[CONFIG].value
    if spec is None:
        raise ConfigError("--config=NAME[:VARIANT] is missing, such as --config=lung_resnet:demo")
    return spec, parse_overrides(spec, sys.argv)


def parse_overrides(spec: str, argv: Sequence[str]) -> dict[str, Any]:
    """The values of the arguments --config.FIELD=VALUE for the config `PATH` or `PATH:VARIANT`."""
    last = {field: argument for argument in argv[1:] if (field := _field_of(argument)) is not None}
    unset = [field for field, argument in last.items() if argument.endswith("=None")]
    arguments = [argv[0], *(argument for field, argument in last.items() if field not in unset)]
    parser = flags.FlagValues()
    config = config_lib.import_config(spec)
    config_flags.DEFINE_config_dict(CONFIG, config, flag_values=parser, sys_argv=arguments)
    try:
        parser(arguments)
    except (flags.Error, TypeError, ValueError, AttributeError, KeyError) as error:
        message = " ".join(str(error).split())
        if message.startswith("Missing value for flag "):
            message = f"{message.split()[4]} has no value: options are given as --name=value"
        found = re.match(r"flag --config\.([\w.]+)=(.*?): ", str(error), re.DOTALL)
        if found is not None and found[1] in config_lib.FIELDS:  # a value that absl could not parse
            expected = config_lib.FIELDS[found[1]].expected
            message = f"--config.{found[1]}={found[2]} is invalid: it must be {expected}"
        raise ConfigError(message) from error
    return dict(config_flags.get_override_values(parser[CONFIG])) | dict.fromkeys(unset)


def kernels_library() -> Path | None:
    """The library of C++ kernels; None if it has not been built or with --nokernels."""
    from jaxnets.ops.cpu_kernels import build  # imports JAX

    return build.find(kernels_folder()) if KERNELS.value else None


def _help() -> str:
    """The script's docstring, its flags and the common flags."""
    script, name = sys.modules["__main__"], Path(sys.argv[0]).stem
    description = str(script.__doc__).replace(f"python scripts/{name}.py", command(name))
    own = flags.FLAGS.module_help(sys.argv[0]) + flags.FLAGS.module_help(__name__)
    more = "--print_config lists the config's fields." if "print_config" in flags.FLAGS else ""
    return f"{description}\n{own}\n{more}".rstrip()


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Parses the flags of a command line but --config.FIELD=VALUE; returns the positional arguments.

    Raises ConfigError for an unknown flag or config field, or an invalid value.
    """
    fields = [field for argument in argv[1:] if (field := _field_of(argument)) is not None]
    for field in fields:
        config_lib.check_field(field)
    try:
        return flags.FLAGS([argument for argument in argv if _field_of(argument) is None])
    except flags.UnrecognizedFlagError as error:
        fields = [field for field in config_lib.FIELDS if field.rpartition(".")[2] == error.flagname]
        nearest = f" (did you mean --config.{fields[0]}?)" if fields and CONFIG in flags.FLAGS else ""
        nearest = nearest or suggest(error.flagname, list(flags.FLAGS))
        raise ConfigError(f"unknown flag --{error.flagname}{nearest}; --help lists all") from error
    except (flags.Error, ValueError, OSError) as error:
        raise ConfigError(" ".join(str(error).split())) from error


def _field_of(argument: str) -> str | None:
    """FIELD of an argument --config.FIELD=VALUE; None for other arguments."""
    if not argument.startswith(_CONFIG_PREFIX):
        return None
    return argument.removeprefix(_CONFIG_PREFIX).split("=", 1)[0]


def _cause(error: Exception) -> tuple[str, int]:
    """The message and the exit code of an error."""
    if isinstance(error, JaxnetsError):
        return str(error), error.exit_code
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return "out of memory: try a smaller --config.train.batch_size or image size", 6
    if isinstance(error, OSError):
        place = f" ({error.filename})" if error.filename else ""
        if error.errno in DISK_FULL:
            return f"the disk is full{place}: make room and run the same command again", 6
        if error.errno in NOT_WRITABLE:
            return f"{error.strerror}{place}: choose another place, or change its permissions", 6
    if place := _place_in_other_code(error):
        return f"{type(error).__name__} in {place}: {error}", BUG
    return "internal error: please report it with these lines", BUG


def _place_in_other_code(error: Exception) -> str | None:
    """FILE, line N of the user's own code that failed, such as a registered network; None if it is ours."""
    ours = [Path(__file__).parents[1], project_folder("scripts")]
    installed = [sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")]
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if any(path.is_relative_to(folder) for folder in installed) or not path.is_file():
            continue
        if any(path.is_relative_to(folder) for folder in ours):
            return None
        return f"{os.path.relpath(path)}, line {frame.lineno}"
    return None


def _leave(message: str, code: int) -> NoReturn:
    signals.wait_if_ending()
    if code == BUG or f"--{SHOW_TRACEBACK.name}" in sys.argv:  # flags may not be parsed yet
        print(printable_lines(traceback.format_exc()), end="", file=sys.stderr)
    line = f"{sys.argv[0].rsplit('/', 1)[-1]}: {printable(message)}"
    print(console.wrap_error(line), file=sys.stderr)
    signals.leave(code)
