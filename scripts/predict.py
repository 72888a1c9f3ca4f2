"""Classifies images: python scripts/predict.py --workdir RUN IMAGE_OR_FOLDER... [--csv=F] [--gradcam]."""

from jaxnets.runtime import signals

signals.install()  # before what takes long to import

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from jaxnets.commands import runner
from jaxnets.errors import ConfigError

WORKDIR = flags.DEFINE_string("workdir", None, "The run directory.")
CSV = flags.DEFINE_string(
    "csv", None, "Also write a table here (- is standard output), safe to open in a spreadsheet."
)
JSON = flags.DEFINE_string("json", None, "Also write JSON here; - is standard output.")
GRADCAM = flags.DEFINE_bool(
    "gradcam",
    False,
    "Also write a picture an image, IMAGE.gradcam.png, of what in it speaks for its class.",
)
GRADCAM_FOLDER = flags.DEFINE_string(
    "gradcam_folder", None, "Where those go (RUN/gradcam); no other file there is overwritten."
)
IGNORE_DAMAGE = flags.DEFINE_bool(
    "ignore_damage", False, "Use a run directory although files differ from its checksums."
)


def main(arguments: Sequence[str]) -> None:
    """Images and folders are the arguments."""
    if not WORKDIR.value:
        raise ConfigError("--workdir=RUN is missing: the directory of a trained run")
    from jaxnets.commands import predict  # a wrong flag need not wait for JAX

    folder = GRADCAM_FOLDER.value or (
        Path(WORKDIR.value) / predict.GRADCAM if GRADCAM.value else None
    )
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
