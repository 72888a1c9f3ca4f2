"""Finds the first layer in which two networks differ: python scripts/compare_activations.py A B."""

from jaxnets.runtime import signals

signals.install()  # before the slow imports

import sys
from collections.abc import Sequence
from pathlib import Path

from jaxnets.commands import runner
from jaxnets.errors import ConfigError

sys.path.insert(0, str(Path(__file__).parents[1]))  # studies/ is not installed

IGNORE_DAMAGE = runner.define_ignore_damage()


def main(arguments: Sequence[str]) -> None:
    """A and B are weights folders or runs; B may be a .safetensors file of recorded activations."""
    if len(arguments) != 2:
        raise ConfigError("give two networks: python scripts/compare_activations.py A B")
    from studies import compare_activations  # imports JAX

    first, second = map(Path, arguments)
    compare_activations.compare_activations(first, second, ignore_damage=IGNORE_DAMAGE.value)


if __name__ == "__main__":
    runner.execute(main, with_kernels=False)
