"""BreakHis, benign and malignant breast tissue, split by patient. Not run on the real data.

    python scripts/train.py --config=configs/breakhis.py[:VARIANT]
        --config.data.path=BreaKHis_v1/histology_slides/breast

Variants: those of configs/image_folder.py; the default, transfer, trains a new head on EfficientNet-Lite0
with ImageNet's weights.

The patient is read from the file name: SOB_B_A-14-22549AB-40-001.png has a benign (B) adenosis (A) of patient
14-22549AB at a magnification of 40. No patient is in two subsets, and intervals resample patients. To use one
magnification only, copy its images to a folder of their own.

This config was tried on a few made-up images with such names, not on the 7,909 images of the data set
(Spanhol et al. 2016).
"""

from ml_collections import config_dict

from . import image_folder


def get_config(variant: str = "transfer") -> config_dict.ConfigDict:
    """Returns the config of a variant of image_folder, on BreakHis."""
    config = image_folder.get_config(variant)
    config.name = f"breakhis:{variant}"
    config.data.medical = True
    config.data.split = "grouped"
    config.data.group_pattern = r"SOB_[BM]_[A-Z]+-(\d+-\w+)-\d+-\d+\.png$"
    if not config.transfer.freeze_backbone:
        config.augment.flip_vertical = True
        config.augment.right_angles = True  # tissue has no orientation
    return config
