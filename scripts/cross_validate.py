"""Cross-validates a network: python scripts/cross_validate.py --config=configs/NAME.py[:VARIANT] [--folds=5].

Trains one network for each fold and seed, each in its own directory in --workdir, and pools their predictions
into one report with intervals over all groups. The same command resumes. Several machines share the work with
--shard=1/3, --shard=2/3 and --shard=3/3 on a shared file system.
"""

from jaxnets.runtime import signals

signals.install()  # before the slow imports

from collections.abc import Sequence

from absl import flags

from jaxnets.commands import runner

flags.DEFINE_string("config", None, "The config: PATH or PATH:VARIANT.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the runs (runs/CONFIG-VARIANT-5folds).")
FOLDS = flags.DEFINE_integer("folds", 5, "The number of folds.", lower_bound=3)
SEEDS = flags.DEFINE_integer("seeds", 1, "The number of networks to train for each fold.", lower_bound=1)
FINAL = flags.DEFINE_bool("final", False, "Also train a network on all images, the one to use.")
SHARD = flags.DEFINE_string("shard", None, "I/N: train every N-th run, from the I-th on.")
ALLOW_NONDETERMINISTIC_RESUME = flags.DEFINE_bool(
    "allow_nondeterministic_resume", False, "Resume although hardware or library versions have changed."
)
IGNORE_DAMAGE = runner.define_ignore_damage()


def main(arguments: Sequence[str]) -> None:
    """Takes no positional arguments."""
    runner.check_no_arguments(arguments)
    spec, overrides = runner.parse_config_flag()
    from jaxnets.commands import cross_validate  # imports JAX

    train_flags = runner.shared_flags()
    for flag in (ALLOW_NONDETERMINISTIC_RESUME, IGNORE_DAMAGE):
        if flag.value:
            train_flags.append(flag.serialize())
    options = cross_validate.Options(
        workdir=WORKDIR.value,
        folds=FOLDS.value,
        seeds=SEEDS.value,
        final=FINAL.value,
        shard=SHARD.value,
        train_flags=train_flags,
        ignore_damage=IGNORE_DAMAGE.value,
        command=runner.command_line(),
    )
    cross_validate.cross_validate(spec, overrides, options)


if __name__ == "__main__":
    runner.execute(main, with_kernels=False)
