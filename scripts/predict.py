"""Classifies images: python scripts/predict.py --workdir RUN IMAGE_OR_FOLDER... [--csv=F] [--gradcam]."""

from jaxnets.runtime import signals

signals.install()  # before the slow imports

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from jaxnets.commands import runner
from jaxnets.errors import ConfigError

WORKDIR = flags.DEFINE_string("workdir", None, "The run directory.")
CSV = flags.DEFINE_string(
    "csv", None, "Write a CSV file, safe to open in a spreadsheet; - is standard output."
)
JSON = flags.DEFINE_string("json", None, "Write a JSON file; - is standard output.")
GRADCAM = flags.DEFINE_bool("gradcam", False, "Write a Grad-CAM heat map per image, IMAGE.gradcam.png.")
GRADCAM_FOLDER = flags.DEFINE_string(
    "gradcam_folder", None, "Folder of the heat maps (RUN/gradcam); other files there are not overwritten."
)
IGNORE_DAMAGE = runner.define_ignore_damage()


def main(arguments: Sequence[str]) -> None:
    """The arguments are images and folders."""
    if not WORKDIR.value:
        raise ConfigError("--workdir=RUN is missing: the directory of a trained run")
    from jaxnets.commands import predict  # imports JAX

    folder = GRADCAM_FOLDER.value or (Path(WORKDIR.value) / predict.GRADCAM if GRADCAM.value else None)
    predict.predict_files(
        WORKDIR.value,
        arguments,
        csv_path=CSV.value,
        json_path=JSON.value,
        gradcam_folder=Path(folder) if folder else None,
        ignore_damage=IGNORE_DAMAGE.value,
    )


if __name__ == "__main__":
    runner.execute(main)
