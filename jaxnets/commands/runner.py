"""How a script runs: flags in, one line for what went wrong, an exit code."""

import os
import re
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from absl import flags, logging
from ml_collections import config_flags

from jaxnets import config as config_lib
from jaxnets.errors import ConfigError, JaxnetsError
from jaxnets.io import DISK_FULL, NOT_WRITABLE, user_cache_folder
from jaxnets.runtime import signals, xla
from jaxnets.runtime.allocator import retain_freed_memory
from jaxnets.text import printable, printable_lines

SHOW_TRACEBACK = flags.DEFINE_bool("traceback", False, "Show where in the code an error arose.")
KEEP_MEMORY = flags.DEFINE_bool(
    "keep_memory", True, "Keep freed memory (glibc): faster steps on CPUs, for a lasting peak."
)
KERNELS = flags.DEFINE_bool(
    "kernels", True, "Use the C++ kernels on CPUs, where scripts/build_kernels.py has built them."
)
KERNELS_FOLDER = flags.DEFINE_string(
    "kernels_folder", None, "Where they are built and looked for (~/.cache/jaxnets/kernels)."
)
COMPILATION_CACHE = flags.DEFINE_string(
    "compilation_cache", "auto", "Folder of compiled programs; auto, or none."
)
HELP = {"-h", "-help", "--help", "--helpshort", "--helpfull"}
CONFIG = "config"
CONFIG_PREFIX = f"--{CONFIG}."
FAULT = 1


def execute(
    main: Callable[[Sequence[str]], None],
    *,
    with_kernels: bool = True,
    before_jax: Callable[[], None] = lambda: None,
) -> NoReturn:
    """Parses the flags, calls `main` with the arguments that are no flags, and exits.

    `before_jax` is called when the flags are parsed and JAX is not imported yet.

    What has a known cause is one line on standard error and the exit code of its class; anything else is
    a fault of the program: a traceback and 1. Signals are those of `runtime.signals`.
    """
    logging.set_verbosity(logging.ERROR)
    hide_warnings_of_others()
    try:
        if HELP & set(sys.argv[1:]):
            print(_help(), flush=True)
            signals.leave(0)
        arguments = _parse(sys.argv)
        _check_config()
        xla.set_safe_flags(os.environ)
        before_jax()
        if KEEP_MEMORY.value:
            retain_freed_memory()
        _keep_compiled()
        if with_kernels:
            _enable_kernels()
        main(arguments[1:])
        sys.stdout.flush()
    except JaxnetsError as error:
        _leave(str(error), error.exit_code)
    except MemoryError:
        _leave("out of memory: try a smaller --config.train.batch_size or image size", 6)
    except BrokenPipeError:
        sys.stderr.close()
        signals.leave(signals.EXIT_CODE + signal.SIGPIPE)
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        if error.errno in DISK_FULL:
            _leave(f"the disk is full{place}: make room and run the same command again", 6)
        if error.errno in NOT_WRITABLE:
            _leave(f"{error.strerror}{place}: choose another place, or change its permissions", 6)
        _report_fault()
    except Exception as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            _leave("out of memory: try a smaller --config.train.batch_size or image size", 6)
        _report_fault()
    signals.leave(0)


def hide_warnings_of_others() -> None:
    """Hides Pillow's warnings of odd metadata, and JAX's of a cache of programs that it cannot write.

    For a process that is a script of ours: the images are read, the programs compiled all the same.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")


def shared_flags() -> list[str]:
    """The flags of every script that this command was given, for another script that it starts."""
    of_every_script = flags.FLAGS.flags_by_module_dict()[__name__]
    return [flag.serialize() for flag in of_every_script if flag.present]


def kernels_folder() -> Path:
    """--kernels_folder, else the one in the user's cache folder."""
    return Path(KERNELS_FOLDER.value or user_cache_folder() / "kernels")


def parse_config_flag(
    holder: flags.FlagHolder[Any] | flags.Flag[Any],
) -> tuple[str, dict[str, Any]]:
    """The config file, `PATH` or `PATH:VARIANT`, that --config names, and the --config.FIELD values.

    None for the fields that --config.FIELD=None unsets. Raises ConfigError where there is no --config.
    """
    if holder.value is None:
        raise ConfigError("--config=configs/NAME.py[:VARIANT] is missing; see configs/")
    flag = flags.FLAGS[holder.name]
    overrides = dict(config_flags.get_override_values(flag))
    return config_flags.get_config_filename(flag), overrides | dict.fromkeys(_unset(sys.argv))


def _check_config() -> None:
    """Loads what --config names, where there is one: a wrong recipe need not wait for JAX."""
    if CONFIG in flags.FLAGS and flags.FLAGS[CONFIG].value is not None:
        config_lib.load_config(*parse_config_flag(flags.FLAGS[CONFIG]))


def _keep_compiled() -> None:
    from jaxnets.runtime import compilation_cache  # a wrong flag need not wait for JAX

    compilation_cache.enable(COMPILATION_CACHE.value)


def kernels_library() -> Path | None:
    """The library of C++ kernels that scripts/build_kernels.py built; None without, or with --nokernels."""
    from jaxnets.ops.cpu_kernels import build  # --help need not wait for the layers

    path = build.library_path(kernels_folder())
    return path if KERNELS.value and path.is_file() else None


def _enable_kernels() -> None:
    from jaxnets.ops.cpu_kernels import load

    if library := kernels_library():
        load.enable(library)


def _help() -> str:
    """The script's own sentence, its flags and the flags of every script."""
    script = sys.modules["__main__"]
    own = flags.FLAGS.module_help(sys.argv[0]) + flags.FLAGS.module_help(__name__)
    more = "--print_config lists the fields of a recipe." if "print_config" in flags.FLAGS else ""
    return f"{script.__doc__}\n{own}\n{more}".rstrip()


def _parse(argv: Sequence[str]) -> list[str]:
    for argument in argv[1:]:
        if (field := _field_of(argument)) is not None:
            config_lib.check_field(field)
    unset = _unset(argv)
    try:
        return flags.FLAGS([argument for argument in argv if _field_of(argument) not in unset])
    except (flags.Error, TypeError, ValueError, AttributeError, KeyError, OSError) as error:
        if isinstance(error, flags.UnrecognizedFlagError):
            raise ConfigError(
                f"unknown flag --{error.flagname}{config_lib.nearest(error.flagname, list(flags.FLAGS))}; "
                "--help lists all"
            ) from error
        raise ConfigError(_value_problem(str(error)) or " ".join(str(error).split())) from error


def _field_of(argument: str) -> str | None:
    """The field that an argument --config.FIELD=VALUE sets; None of another argument."""
    if not argument.startswith(CONFIG_PREFIX):
        return None
    return argument.removeprefix(CONFIG_PREFIX).split("=", 1)[0]


def _unset(argv: Sequence[str]) -> set[str]:
    """The fields that --config.FIELD=None unsets, where that is the last that is said of them.

    The flags of ml_collections read None as text, or not at all.
    """
    last = {_field_of(argument): argument for argument in argv[1:]}
    return {field for field, argument in last.items() if field and argument.endswith("=None")}


def _value_problem(message: str) -> str | None:
    """What is wrong with the value of a field that flags could not read; None of other errors."""
    found = re.match(r"flag --config\.([\w.]+)=(.*?): ", message, re.DOTALL)
    if found is None or found[1] not in config_lib.FIELDS:
        return None
    expected = config_lib.FIELDS[found[1]].expected
    return f"--config.{found[1]}={found[2]} is invalid: it must be {expected}"


def _report_fault() -> NoReturn:
    signals.wait_if_ending()
    print(printable_lines(traceback.format_exc()), end="", file=sys.stderr)
    print("a fault of the program: please report it with these lines", file=sys.stderr)
    signals.leave(FAULT)


def _leave(message: str, code: int) -> NoReturn:
    signals.wait_if_ending()
    if f"--{SHOW_TRACEBACK.name}" in sys.argv:  # the flags themselves may be what is wrong
        print(printable_lines(traceback.format_exc()), end="", file=sys.stderr)
    print(f"{sys.argv[0].rsplit('/', 1)[-1]}: {printable(message)}", file=sys.stderr)
    signals.leave(code)
