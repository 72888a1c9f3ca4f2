"""NCT-CRC-HE-100K, nine tissues of colorectal cancer, tested on CRC-VAL-HE-7K. Not run on the real data.

    python scripts/train.py --config=configs/nct_crc_he.py[:VARIANT] --config.data.path=DIR/table.csv

Variants: those of configs/image_folder.py; the default, transfer, trains a new head on EfficientNet-Lite0
with ImageNet's weights.

DIR contains the folders NCT-CRC-HE-100K and CRC-VAL-HE-7K (Kather et al. 2018, zenodo.org/records/1214456).
docs/own_data.md has the command that writes DIR/table.csv.

The 100,000 images are of 86 patients and the 7,180 test images of 50 others. The file names have no patient:
validation images are drawn from training at random and may show the same patients, and intervals treat images
as independent. The run reports the groups as unknown.

This config was tried on a few made-up images in such folders, not on the data set.
"""

from ml_collections import config_dict

from . import image_folder


def get_config(variant: str = "transfer") -> config_dict.ConfigDict:
    """Returns the config of a variant of image_folder, on the table of NCT-CRC-HE."""
    config = image_folder.get_config(variant)
    config.name = f"nct_crc_he:{variant}"
    config.data.medical = True
    config.data.name = "table"
    config.data.classes = ("ADI", "BACK", "DEB", "LYM", "MUC", "MUS", "NORM", "STR", "TUM")
    config.data.split = "official"
    config.data.validation_fraction = 0.1
    if not config.transfer.freeze_backbone:
        config.augment.flip_vertical = True
        config.augment.right_angles = True  # tissue has no orientation
    return config
