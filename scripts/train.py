"""Trains a network: python scripts/train.py --config=configs/lung_resnet.py[:VARIANT]."""

from jaxnets.runtime import signals

signals.install()  # before the slow imports

import sys
from collections.abc import Sequence

from absl import flags

from jaxnets import config as config_lib
from jaxnets.commands import runner

flags.DEFINE_string("config", None, "The config: PATH or PATH:VARIANT.")
WORKDIR = flags.DEFINE_string("workdir", None, "Run directory (runs/CONFIG-VARIANT-sSEED).")
PRINT_CONFIG = flags.DEFINE_bool("print_config", False, "Print the full config and exit.")
ALLOW_NONDETERMINISTIC_RESUME = flags.DEFINE_bool(
    "allow_nondeterministic_resume", False, "Resume although hardware or library versions have changed."
)
CALLBACKS = flags.DEFINE_list(
    "callbacks", [], "Additional callbacks, MODULE:CLASS,...; modules of the current folder can be imported."
)
IGNORE_DAMAGE = runner.define_ignore_damage()
DISTRIBUTED = flags.DEFINE_bool("distributed", False, "Multi-process training (docs/scale.md).")
COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0 (detected).")
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Number of processes (detected).")
PROCESS_ID = flags.DEFINE_integer("process_id", None, "Index of this process (detected).")


def run_in_child() -> None:
    """With --distributed, trains in a child process and waits for it."""
    if DISTRIBUTED.value and not PRINT_CONFIG.value:
        from jaxnets.runtime import distributed  # only these runs need it

        distributed.run_in_child([sys.executable, *sys.argv], with_traceback=runner.SHOW_TRACEBACK.value)


def main(arguments: Sequence[str]) -> None:
    """Takes no positional arguments."""
    runner.check_no_arguments(arguments)
    spec, overrides = runner.parse_config_flag()
    if PRINT_CONFIG.value:
        print(config_lib.to_json(config_lib.load_config(spec, overrides)), end="")
        return
    from jaxnets.experiment import train  # imports JAX
    from jaxnets.training import callbacks, devices

    options = train.Options(
        workdir=WORKDIR.value,
        allow_nondeterministic_resume=ALLOW_NONDETERMINISTIC_RESUME.value,
        ignore_damage=IGNORE_DAMAGE.value,
        callbacks=callbacks.import_callbacks(CALLBACKS.value),
        command=runner.command_line(),
    )
    if not DISTRIBUTED.value:
        train.train(spec, overrides, options)
        return
    from jaxnets.runtime import distributed

    with distributed.lost_processes():
        devices.initialize_distributed(COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value)
        train.train(spec, overrides, options)


if __name__ == "__main__":
    runner.execute(main, before_jax=run_in_child)
