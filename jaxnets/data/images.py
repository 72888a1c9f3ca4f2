"""The one way in which an image file becomes pixels.

| The file holds | What is made of it |
| --- | --- |
| JPEG, PNG, TIFF, WebP; told by content, never by name | accepted; nothing else is |
| several frames or pages | the first |
| grey, 1 bit, palette, CMYK, YCbCr | RGB |
| transparency (RGBA, LA, a palette's, one colour of PNG) | composited onto white |
| 16 bits a channel, grey or RGB | `value >> 8`, never clipped; so 257 v gives back v |
| 12-bit grey TIFF | `value >> 4` |
| EXIF or TIFF orientation | applied; EXIF that cannot be read counts as none |
| ICC profile, gamma | ignored: the numbers in the file are the numbers given |
| signed or 32-bit numbers, CIELAB | refused: the scale is not known |
| cut short, damaged, empty, not an image, too many pixels | refused |
"""

import os
import re
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import (
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from jaxnets.errors import DataError
from jaxnets.io import read_regular

MAX_PIXELS = 100_000_000
"""The most pixels an image may have; its header is asked before anything is decoded."""

PIXELS = 1
"""Part of every cache's key: add one when `decode_image` or `resize_image` give other pixels than before."""

ALSO_NAMED = 9
"""How many images an error names beside the first."""

EXTENSIONS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp")

_CLASSES = (
    (b"\xff\xd8\xff", JpegImagePlugin.JpegImageFile),
    (b"\x89PNG\r\n\x1a\n", PngImagePlugin.PngImageFile),
    *(
        (prefix, TiffImagePlugin.TiffImageFile)
        for prefix in (b"II*\0", b"MM\0*", b"MM*\0", b"II\0*")
    ),
    *((prefix, TiffImagePlugin.TiffImageFile) for prefix in (b"MM\0+", b"II+\0")),  # BigTIFF
)

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_TIFF_BITS_PER_SAMPLE = 258
_TIFF_PHOTOMETRIC = 262
_WHITE_IS_ZERO = 0

_SIGNATURES = (
    (b"\xff\xd8\xff", "a JPEG"),
    (b"\x89PNG\r\n\x1a\n", "a PNG"),
    (b"II*\0", "a TIFF"),
    (b"MM\0*", "a TIFF"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself (run: git lfs pull)"),
    (b"GIF8", "a GIF"),
    (b"BM", "a BMP"),
    (b"%PDF", "a PDF"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
)


def decode_image(data: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decodes an image file's bytes to uint8[H, W, 3], as the table above says.

    `name` is what errors call the file. Raises DataError for anything that is not a whole,
    ordinary image of at most `max_pixels` pixels.

    Safe in several threads, and nothing of the process is changed: neither Pillow's globals nor the
    filters of warnings. So Pillow's warnings of odd metadata are shown or not as the program wants it.
    """
    image = _open(data, name, max_pixels)
    # Pillow's plugins raise nearly any exception on a damaged file, so none is let through
    # but the want of memory, which is not the file's fault.
    try:
        image.load()
        return _to_rgb(_upright(image))
    except MemoryError:
        raise
    except Exception as error:
        raise DataError(
            f"{name}: the {image.format} is damaged or cut short ({error}); "
            "copy it again from its origin, or remove it"
        ) from error


def read_image(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Reads an image file to uint8[H, W, 3]; raises DataError as `decode_image` does."""
    try:
        data = read_regular(Path(path))
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"{path}: cannot be read ({reason}); check the path") from error
    return decode_image(data, str(path), max_pixels=max_pixels)


def all_unreadable(faults: Sequence[str]) -> DataError:
    """One error for many images: the first by name in full, some of the others' names, and their number."""
    first, *others = sorted(faults)
    if not others:
        return DataError(first)
    names = [fault.partition(": ")[0] for fault in others[:ALSO_NAMED]]
    left = len(others) - len(names)
    return DataError(f"{first} (also {', '.join(names)}{f' and {left:,} more' if left else ''})")


def resize_image(
    image: np.ndarray, size: int, method: Literal["crop", "stretch"] = "crop"
) -> np.ndarray:
    """Resizes uint8[H, W, C], C 1 or 3, to uint8[size, size, C]: bicubic with antialiasing.

    "crop" scales the shorter side to `size` and keeps the centre; "stretch" scales each side
    by itself. An image of that size already is returned as it is. The filter is Pillow's
    BICUBIC, with which the 224 px copies of LC25000 were made from its 768 px files.
    """
    height, width, channels = image.shape
    if (height, width) == (size, size):
        return image
    if method == "crop":
        side = min(height, width)
        left, top = (width - side) / 2, (height - side) / 2
    elif method == "stretch":
        left = top = 0.0
    else:
        raise ValueError(f'method must be "crop" or "stretch", not {method!r}')
    box = (left, top, width - left, height - top)
    pixels = np.ascontiguousarray(image[..., 0] if channels == 1 else image)
    # The filter reaches beyond the box into the image, so this is resizing and then cropping.
    resized = Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC, box=box)
    return np.array(resized).reshape(size, size, channels)


def to_grey(image: np.ndarray) -> np.ndarray:
    """uint8[H, W, 3] to luma uint8[H, W, 1], by ITU-R 601's weights as Pillow's mode L."""
    return np.array(Image.fromarray(image).convert("L"))[..., None]


def _open(data: bytes, name: str, max_pixels: int) -> Image.Image:
    if not data:
        raise DataError(f"{name}: the file is empty (0 bytes); copy it again, or remove it")
    try:
        # Not Image.open, whose own limit of pixels is a warning, and a global that is not ours.
        image = _class_of(data)(BytesIO(data))
        width, height = image.size
    except MemoryError:
        raise
    except Warning as warning:
        raise DataError(
            f"{name}: Pillow warns of it ({warning}), and this program makes warnings errors; "
            "save it again, or let Pillow's warnings pass"
        ) from warning
    except Exception as error:
        what = _what_it_is(data)
        raise DataError(
            f"{name}: cannot be read as an image, it is {what}; "
            "give a whole JPEG, PNG, TIFF or WebP file, or remove it"
        ) from error
    if width * height > max_pixels:
        raise DataError(
            f"{name}: {width:,} x {height:,} pixels are more than {max_pixels:,}; "
            "make it smaller, or allow more"
        )
    if image.mode == "LAB":
        raise DataError(f"{name}: CIELAB, whose white is not known; save it as RGB")
    if image.mode in ("I", "F"):
        raise DataError(
            f"{name}: signed or 32-bit numbers, whose scale is not known; "
            "save it with 8 or 16 bits a channel"
        )
    return image


def _class_of(data: bytes) -> type[ImageFile.ImageFile]:
    """Pillow's class of files that begin like this one; raises ValueError for other formats than ours."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return WebPImagePlugin.WebPImageFile
    for start, file in _CLASSES:
        if data.startswith(start):
            return file
    raise ValueError("of no format that is read")


def _what_it_is(data: bytes) -> str:
    for signature, what in _SIGNATURES:
        if data.startswith(signature):
            return what + (", damaged, cut short or unusual" if what in _READABLE else "")
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "a WebP, damaged, cut short or unusual"
    if data[4:12] in (b"ftypheic", b"ftypavif", b"ftypmif1"):
        return "a HEIC or AVIF"
    start = data[:256]
    if re.match(rb"\s*<(!doctype|html)", start, re.IGNORECASE):
        return "an HTML page"
    if re.fullmatch(rb"[\t\n\r\x20-\x7e]+", start):
        return f"text ({start[:20].decode()!r}...)"
    return f"of an unknown kind (it begins with {data[:8].hex(' ')})"


_READABLE = ("a JPEG", "a PNG", "a TIFF")


def _upright(image: Image.Image) -> Image.Image:
    """Turns an image as its EXIF says; Pillow has turned a TIFF already while loading it."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:
        # Damaged metadata beside whole pixels; the table above says that it counts as none.
        return image
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _to_rgb(image: Image.Image) -> np.ndarray:
    """Converts a loaded image of any mode to uint8[H, W, 3]."""
    if image.mode.startswith("I;16"):
        return _from_16_bit_grey(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    if image.mode != "RGB":
        image = image.convert("RGB")
    return np.array(image)


def _from_16_bit_grey(image: Image.Image) -> np.ndarray:
    values = np.asarray(image).astype(np.uint16)
    transparent = image.info.get("transparency")
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(_TIFF_BITS_PER_SAMPLE, (16,))[0]
    grey = (values >> (bits - 8)).astype(np.uint8)
    # Pillow inverts such TIFFs at 8 bits and forgets to at 16.
    if tags.get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO:
        grey = 255 - grey
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return np.repeat(grey[..., None], 3, axis=2)
