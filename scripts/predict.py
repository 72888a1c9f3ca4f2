"""Classifies images: python scripts/predict.py --workdir RUN IMAGE_OR_FOLDER... [--csv=F] [--json=F]."""

from collections.abc import Sequence

from absl import flags

from jaxnets.app import command, predict
from jaxnets.errors import ConfigError

WORKDIR = flags.DEFINE_string("workdir", None, "The run directory.")
CSV = flags.DEFINE_string("csv", None, "Also write a table here; - is standard output.")
JSON = flags.DEFINE_string("json", None, "Also write JSON here; - is standard output.")


def main(arguments: Sequence[str]) -> None:
    """Images and folders are the arguments."""
    if not WORKDIR.value:
        raise ConfigError("--workdir=RUN is missing: the directory of a trained run")
    predict.predict_files(WORKDIR.value, arguments, csv_path=CSV.value, json_path=JSON.value)


if __name__ == "__main__":
    command.execute(main)
