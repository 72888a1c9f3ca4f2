"""Any folder of images, with a folder a class or without."""

from pathlib import Path

from jaxnets.data.folder import ImageFiles, is_image_name, natural_order, visible_files
from jaxnets.data.images import MAX_PIXELS
from jaxnets.errors import DataError


def list_images(folder: Path, *, max_pixels: int = MAX_PIXELS) -> tuple[ImageFiles, int]:
    """The images at any depth, and how many other files lie among them.

    A class is a folder directly below; images that lie in none are one class more, "". Raises
    DataError where there are not two images.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise DataError(f"{folder}: {what}; give the folder that holds the images")
    seen = list(visible_files(folder))
    files = sorted((file for file in seen if is_image_name(file)), key=natural_order)
    if len(files) < 2:
        raise DataError(
            f"{folder}: {len(files)} images among {len(seen)} files; at least two are needed: "
            "JPEG, PNG, TIFF and WebP are read"
        )
    owners = [file.split("/")[0] if "/" in file else "" for file in files]
    classes = sorted(set(owners))
    labels = [classes.index(owner) for owner in owners]
    return ImageFiles("images", folder, files, labels, classes, max_pixels=max_pixels), (
        len(seen) - len(files)
    )
