"""The config fields of the data, their split and their augmentation."""

from collections.abc import Mapping

from jaxnets.config import conditions as when
from jaxnets.config.field import Field, choice, field, optional

DATA_FIELDS: Mapping[str, Field] = {
    "data.name": field(
        "auto", "a source of jaxnets.data.sources; auto: LC25000 if prepared, else the variant demo"
    ),
    "data.root": optional(str, "data folder; None: $JAXNETS_DATA, else ./data"),
    "data.cache_root": optional(
        str,
        "cache of decoded images; None: ROOT/cache, or the user's cache folder",
        used=when.positive("data.cache", True),
    ),
    "data.path": optional(
        str,
        "image_folder: the folder; table: the CSV file; tfds: the builder's folder",
        used=when.source_has("path"),
    ),
    "data.medical": field(
        False,
        "the images are medical: reports, predictions, model cards and web pages have a disclaimer",
        used=when.source_has("path"),
    ),
    "data.image_folders": field(
        (),
        "folders that contain the table's images; empty: the table's own folder",
        element_type=str,
        used=when.source_has("image_folders"),
    ),
    "data.classes": field(
        (),
        "class names in the order of their numbers; empty: the table's labels in alphabetical order",
        element_type=str,
        used=when.source_has("classes"),
    ),
    "data.image_size": field(224, "image height and width in pixels", ge=8, le=4096, used=when.IMAGES),
    "data.resize": choice("crop", ("crop", "stretch"), "how images are made square", used=when.IMAGES),
    "data.max_pixels": field(100_000_000, "maximum pixels of an image file", ge=1, used=when.IMAGES),
    "data.cache": field(True, "decode images once into a memory map", used=when.IMAGES),
    "data.on_device": choice(
        "auto", ("auto", "yes", "no"), "store all examples on the device; auto: if they fit"
    ),
    "data.num_examples": field(
        3000, "number of synthetic images", ge=30, used=when.source_has("num_examples")
    ),
    "data.synthetic_seed": field(
        0, "seed of the synthetic images", ge=0, used=when.source_has("synthetic_seed")
    ),
    "data.mean": field((0.5, 0.5, 0.5), "mean per channel, of pixels in [0, 1]", used=when.IMAGES),
    "data.std": field((0.5, 0.5, 0.5), "standard deviation per channel", ge=1e-6, used=when.IMAGES),
    "data.threads": field(0, "reader threads; 0: one per core", ge=0, le=256),
    "data.split": choice(
        "random",
        ("random", "official", "grouped"),
        "train/validation/test split; grouped: near-duplicates, or images of one group, are in one subset",
    ),
    "data.groups": optional(
        str,
        "CSV of groups (file,original,group, or of LC25000-clean); None: our groups of LC25000 and CIFAR-10",
        used=when.IMAGES,
    ),
    "data.group_pattern": optional(
        str,
        "regular expression whose brackets capture the group (such as the patient) in each file's path",
        used=when.source_has("group_pattern"),
    ),
    "data.find_groups": field(
        False,
        "search the image files for near-duplicates before the split (extra `duplicates`)",
        used=when.all_of(
            when.source_has("group_pattern"),
            when.field_is(
                "data.groups", lambda groups: groups is None, "data.groups is not set", "leave it out"
            ),
        ),
    ),
    "data.group_level": choice(
        "group",
        ("group", "original"),
        "what a group is: photographs that overlap, or one original photograph",
        used=when.any_of(
            when.one_of("data.name", "lc25000_lung", "cifar10"),
            when.given("data.groups", "FILE"),
            when.positive("data.find_groups", True),
        ),
    ),
    "data.folds": field(
        0, "number of folds of a cross-validation; 0: split by data.fractions", ge=0, used=when.RANDOM_SPLIT
    ),
    "data.fold": field(
        0, "the test fold; the next one is for validation", ge=0, used=when.positive("data.folds", 5)
    ),
    "data.allow_duplicates": field(
        False,
        "train even if test images, or images of their groups in an official split, are also in the training "
        "set; CIFAR-10's official split is only marked LEAKY",
        used=when.IMAGES,
    ),
    "data.split_seed": field(
        0,
        "seed of the split; independent of seed",
        ge=0,
        used=when.any_of(when.RANDOM_SPLIT, when.positive("data.validation_fraction", 0.1)),
    ),
    "data.fractions": field(
        (0.70, 0.15, 0.15),
        "train, validation and test fractions of a random or grouped split",
        ge=0.0,
        le=1.0,
        used=when.all_of(when.RANDOM_SPLIT, when.off("data.folds")),
    ),
    "data.validation_fraction": field(
        0.0, "fraction of the training set used for validation", ge=0.0, le=0.9, used=when.OFFICIAL_SPLIT
    ),
    # Augmentation, of training images, on the device.
    "augment.random_resized_crop": field(
        0.0,
        "random crop of at least this fraction of the area and an aspect ratio from 3/4 to 4/3, resized, as "
        "torchvision's RandomResizedCrop; 0: off",
        ge=0.0,
        le=1.0,
        used=when.IMAGES,
    ),
    "augment.flip_horizontal": field(False, "random horizontal flips", used=when.IMAGES),
    "augment.flip_vertical": field(False, "random vertical flips", used=when.IMAGES),
    "augment.right_angles": field(False, "random rotation by 0, 90, 180 or 270 degrees", used=when.IMAGES),
    "augment.rotation_degrees": field(
        0.0, "random rotation by up to this angle", ge=0.0, le=180.0, used=when.IMAGES
    ),
    "augment.crop_padding": field(0, "zero padding in pixels before a random crop", ge=0, used=when.IMAGES),
    "augment.brightness": field(0.0, "random factor in [1 - b, 1 + b]", ge=0.0, le=1.0, used=when.IMAGES),
    "augment.contrast": field(0.0, "random factor in [1 - c, 1 + c]", ge=0.0, le=1.0, used=when.IMAGES),
    "augment.saturation": field(0.0, "random factor in [1 - s, 1 + s]", ge=0.0, le=1.0, used=when.IMAGES),
    "augment.hue": field(0.0, "random hue rotation, in turns", ge=0.0, le=0.5, used=when.IMAGES),
    "augment.stain": field(
        0.0, "random factor of H&E densities in [1 - s, 1 + s]", ge=0.0, le=1.0, used=when.IMAGES
    ),
    "augment.mixup": field(
        0.0,
        "alpha of mixup's Beta distribution; 0: off",
        ge=0.0,
        used=when.all_of(when.IMAGES, when.CROSS_ENTROPY),
    ),
    "augment.cutmix": field(
        0.0,
        "alpha of CutMix's Beta distribution; 0: off; with mixup, each image gets one of both",
        ge=0.0,
        used=when.all_of(when.IMAGES, when.CROSS_ENTROPY),
    ),
}
