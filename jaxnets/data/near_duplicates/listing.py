"""Any folder of images, with a folder a class or without."""

import dataclasses
from pathlib import Path

from jaxnets.data.images import MAX_PIXELS
from jaxnets.data.sources.image_folder import (
    ImageFiles,
    is_image_name,
    natural_order,
    visible_files,
)
from jaxnets.errors import DataError


@dataclasses.dataclass(frozen=True)
class AllowedHashes:
    """The images, and how many files were left out: of other kinds, and images that lie beside classes."""

    images: ImageFiles
    others: int
    beside: int


def list_images(folder: Path, *, max_pixels: int = MAX_PIXELS) -> AllowedHashes:
    """The images at any depth; links to folders are followed at the first level only, as by ImageFolder.

    A class is a folder directly below. Where two of them or more hold images, those that lie in none are
    left out, as training does; else they are one class more, "". Raises DataError where there are not two
    images.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise DataError(f"{folder}: {what}; give the folder that holds the images")
    seen = _seen(folder)
    found = {owner: list(filter(is_image_name, files)) for owner, files in seen.items()}
    total = sum(map(len, seen.values()))
    others = total - sum(map(len, found.values()))
    classes = sorted(owner for owner, files in found.items() if owner and files)
    beside = len(found[""]) if len(classes) >= 2 else 0
    if found[""] and not beside:
        classes = ["", *classes]
    files = sorted((file for owner in classes for file in found[owner]), key=natural_order)
    if len(files) < 2:
        raise DataError(
            f"{folder}: {len(files)} images among {total} files; at least two are needed: "
            "JPEG, PNG, TIFF and WebP are read"
        )
    labels = [classes.index(file.split("/")[0] if "/" in file else "") for file in files]
    images = ImageFiles("images", folder, files, labels, classes, max_pixels=max_pixels)
    return AllowedHashes(images, others, beside)


def _seen(folder: Path) -> dict[str, list[str]]:
    """The visible files by the first-level folder they lie in, "" for none; paths from `folder`."""
    try:
        visible = [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be listed ({error.strerror}); mend its permissions"
        ) from error
    seen = {"": [path.name for path in visible if not path.is_dir()]}
    for path in visible:
        if path.is_dir():
            seen[path.name] = [f"{path.name}/{file}" for file in visible_files(path)]
    return seen
