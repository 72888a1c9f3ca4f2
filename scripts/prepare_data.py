"""Prepares a dataset: python scripts/prepare_data.py lc25000_lung|mnist|cifar10 [--from=PATH]."""

from jaxnets.runtime import signals

signals.install()  # before the slow imports

from collections.abc import Sequence

from absl import flags

from jaxnets.commands import prepare_data, runner

ROOT = flags.DEFINE_string("root", None, "Data folder ($JAXNETS_DATA, else ./data).")
FROM = flags.DEFINE_string("from", None, "A local folder or archive with the data.")
KAGGLE = flags.DEFINE_bool("kaggle", False, "Download LC25000 from Kaggle (pip install kagglehub).")


def main(arguments: Sequence[str]) -> None:
    """The argument is the dataset's name."""
    prepare_data.prepare(arguments, root=ROOT.value, from_path=FROM.value, kaggle=KAGGLE.value)


if __name__ == "__main__":
    runner.execute(main)
