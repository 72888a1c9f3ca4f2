"""Lists any folder of images, with or without class subfolders."""

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
class ImageListing:
    """The images, and the numbers of skipped files: other types, and images beside the class folders."""

    images: ImageFiles
    others: int
    beside: int


def list_images(folder: Path, *, max_pixels: int = MAX_PIXELS) -> ImageListing:
    """Lists the images at any depth; links to folders are followed only at the first level.

    A class is a direct subfolder. If at least two of them contain images, images outside of them are skipped
    as in training; else those form the class "". Raises DataError if there are fewer than two images.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise DataError(f"{folder}: {what}; give the folder that contains the images")
    seen = _files_by_class(folder)
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
    return ImageListing(images, others, beside)


def _files_by_class(folder: Path) -> dict[str, list[str]]:
    """Files that are not hidden, relative to `folder`, by their direct subfolder or ""."""
    try:
        visible = [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror}); fix its permissions") from error
    seen = {"": [path.name for path in visible if not path.is_dir()]}
    for path in visible:
        if path.is_dir():
            seen[path.name] = [f"{path.name}/{file}" for file in visible_files(path)]
    return seen
