"""Gets a data set ready: python scripts/prepare_data.py lc25000_lung|mnist|cifar10 [--from=PATH]."""

from jaxnets.runtime import signals

signals.install()  # before what takes long to import

from collections.abc import Sequence

from absl import flags

from jaxnets.commands import prepare_data, runner

ROOT = flags.DEFINE_string("root", None, "Data folder; None takes $JAXNETS_DATA, else ./data.")
FROM = flags.DEFINE_string("from", None, "A folder or archive that is already here.")
KAGGLE = flags.DEFINE_bool("kaggle", False, "LC25000 from Kaggle (pip install kagglehub).")
TFDS = flags.DEFINE_string("tfds", None, "Also write it here as tensorflow-datasets has it.")


def main(arguments: Sequence[str]) -> None:
    """The data set's name is the one argument."""
    prepare_data.prepare(
        arguments,
        root=ROOT.value,
        from_path=FROM.value,
        kaggle=KAGGLE.value,
        tfds_dir=TFDS.value,
    )


if __name__ == "__main__":
    runner.execute(main)
