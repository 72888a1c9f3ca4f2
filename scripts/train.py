"""Trains a network: python scripts/train.py --config=configs/lung_resnet.py[:VARIANT]."""

from jaxnets.runtime import signals

signals.install()  # before what takes long to import

import sys
from collections.abc import Sequence

from absl import flags
from ml_collections import config_flags

from jaxnets import config as config_lib
from jaxnets.commands import runner
from jaxnets.errors import ConfigError
from jaxnets.runtime import distributed

CONFIG = config_flags.DEFINE_config_file("config", None, "The recipe: PATH or PATH:VARIANT.")
WORKDIR = flags.DEFINE_string("workdir", None, "Run directory (runs/CONFIG-VARIANT-sSEED).")
PRINT_CONFIG = flags.DEFINE_bool("print_config", False, "Print the whole recipe and exit.")
ALLOW_DIFFERENT_BITS = flags.DEFINE_bool(
    "allow_nondeterministic_resume", False, "Resume although the machine or versions have changed."
)
IGNORE_DAMAGE = flags.DEFINE_bool(
    "ignore_damage", False, "Use a run directory although files differ from its checksums."
)
DISTRIBUTED = flags.DEFINE_bool("distributed", False, "Train with other processes (docs/scale.md).")
COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0; None detects it.")
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many; None detects it.")
PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which one this is; None detects it.")


def run_in_child() -> None:
    """With --distributed, a child trains and this process waits for it."""
    if DISTRIBUTED.value and not PRINT_CONFIG.value and not distributed.is_child():
        distributed.run_in_child(
            [sys.executable, *sys.argv], with_traceback=runner.SHOW_TRACEBACK.value
        )


def main(arguments: Sequence[str]) -> None:
    """Parses nothing itself: flags in, one call."""
    if arguments:
        raise ConfigError(f"what is {arguments[0]!r}? Options are given as --name=value")
    spec, overrides = runner.parse_config_flag(CONFIG)
    if PRINT_CONFIG.value:
        print(config_lib.to_json(config_lib.load_config(spec, overrides)), end="")
        return
    from jaxnets.experiment import environment, train  # a wrong flag need not wait for JAX
    from jaxnets.training import devices

    options = train.Options(
        workdir=WORKDIR.value,
        allow_nondeterministic_resume=ALLOW_DIFFERENT_BITS.value,
        ignore_damage=IGNORE_DAMAGE.value,
        command=environment.command(),
    )
    if not DISTRIBUTED.value:
        train.train(spec, overrides, options)
        return
    with distributed.lost_processes():
        devices.initialize_distributed(COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value)
        train.train(spec, overrides, options)


if __name__ == "__main__":
    runner.execute(main, before_jax=run_in_child)
