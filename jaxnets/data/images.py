"""Decoding and resizing of image files.

| File | Result |
| --- | --- |
| JPEG, PNG, TIFF, WebP, detected by content and not by name | accepted; all other formats are rejected |
| several frames or pages | the first one |
| grey, 1 bit, palette, CMYK, YCbCr | RGB |
| transparency (RGBA, LA, a palette's, one colour of PNG) | composited onto white |
| 16 bits a channel, grey or RGB | `value >> 8`, not clipped; so 257 v becomes v |
| 12-bit grey TIFF | `value >> 4` |
| EXIF or TIFF orientation | applied; unreadable EXIF is ignored |
| ICC profile, gamma | ignored: values are used as stored |
| signed or 32-bit numbers, CIELAB | rejected: the scale is unknown |
| truncated, damaged, empty, not an image, too many pixels | rejected |
"""

import os
import re
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from PIL import Image, ImageFile, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from jaxnets.data.sources.base import read_file
from jaxnets.errors import DataError

T = TypeVar("T")

MAX_PIXELS = 100_000_000  # the default limit per image, checked in the header before decoding
PIXELS = 1  # in every cache key: increment it when `decode_image` or `resize_image` change any pixel
MAX_NAMED = 9  # further images in an error
EXTENSIONS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp")

# Patterns of the first bytes.
_FORMATS: dict[bytes, type[ImageFile.ImageFile]] = {
    rb"\xff\xd8\xff": JpegImagePlugin.JpegImageFile,
    rb"\x89PNG\r\n\x1a\n": PngImagePlugin.PngImageFile,
    rb"II\*\0|MM\0\*|MM\*\0|II\0\*|MM\0\+|II\+\0": TiffImagePlugin.TiffImageFile,  # the last two: BigTIFF
    rb"RIFF....WEBP": WebPImagePlugin.WebPImageFile,
}
_OTHERS = {
    rb"version https://git-lfs": "a Git LFS pointer, not the file itself (run: git lfs pull)",
    rb"GIF8": "a GIF",
    rb"BM": "a BMP",
    rb"%PDF": "a PDF",
    rb"PK\x03\x04": "a zip archive",
    rb"\x1f\x8b": "a gzip archive",
    rb"....ftyp(heic|avif|mif1)": "a HEIC or AVIF",
    rb"\s*<(?i:!doctype|html)": "an HTML page",
}

_ORIENTATION = 0x0112
_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_TIFF_BITS_PER_SAMPLE, _TIFF_PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0


def decode_image(data: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decodes an image file's bytes to uint8[H, W, 3], as the table above describes.

    `name` identifies the file in errors. Raises DataError for anything but a valid image of at most
    `max_pixels` pixels. It changes neither Pillow's globals nor the warning filters.
    """
    image = _open(data, name, max_pixels)
    try:
        image.load()
        return _to_rgb(_apply_orientation(image))
    except MemoryError:
        raise
    except Exception as error:  # Pillow's plugins raise nearly any exception on damaged files
        problem = f"the {image.format} is damaged or truncated ({error})"
        raise DataError(f"{name}: {problem}; copy it again from its origin, or remove it") from error


def read_image(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Reads an image file to uint8[H, W, 3]; raises DataError as `decode_image` does."""
    return decode_image(read_file(Path(path), "check the path"), str(path), max_pixels=max_pixels)


def from_pillow(image: Image.Image) -> np.ndarray:
    """A Pillow image as uint8[H, W, 3], as the table above describes, but without applying its orientation.

    Raises DataError for signed or 32-bit numbers and CIELAB.
    """
    _check_mode(image, getattr(image, "filename", "") or "the image")
    return _to_rgb(image)


def all_unreadable(messages: Sequence[str]) -> DataError:
    """One error for many images: the first message, the names of some others, and how many more."""
    first, *others = sorted(messages)
    if not others:
        return DataError(first)
    names = [message.partition(": ")[0] for message in others[:MAX_NAMED]]
    more = len(others) - len(names)
    return DataError(f"{first} (also {', '.join(names)}{f' and {more:,} more' if more else ''})")


def resize_image(
    image: np.ndarray, size: int, method: Literal["crop", "stretch"] = "crop", crop: float = 1.0
) -> np.ndarray:
    """Resizes uint8[H, W, C], C 1 or 3, to uint8[size, size, C]: bicubic with antialiasing.

    "crop" scales the shorter side to `size / crop` and crops the centre; "stretch" scales each side
    separately. An image that has the size is returned as it is, unless `crop` is less than 1.
    """
    height, width, channels = image.shape
    if (height, width) == (size, size) and crop == 1:
        return image
    if method == "crop":
        side = min(height, width) * crop
        left, top = (width - side) / 2, (height - side) / 2
    elif method == "stretch":
        left = top = 0.0
    else:
        raise ValueError(f'method must be "crop" or "stretch", not {method!r}')
    box = (left, top, width - left, height - top)
    pixels = np.ascontiguousarray(image[..., 0] if channels == 1 else image)
    # The filter reads pixels outside the box, so this equals resizing followed by cropping.
    resized = Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC, box=box)
    return np.array(resized).reshape(size, size, channels)


def to_grey(image: np.ndarray) -> np.ndarray:
    """Converts uint8[H, W, 3] to ITU-R 601 luma uint8[H, W, 1], as Pillow's mode L."""
    return np.array(Image.fromarray(image).convert("L"))[..., None]


def _open(data: bytes, name: str, max_pixels: int) -> Image.Image:
    if not data:
        raise DataError(f"{name}: the file is empty (0 bytes); copy it again, or remove it")
    image_class = _look_up(_FORMATS, data)
    try:
        if image_class is None:
            raise ValueError("unsupported format")
        # Image.open has its own pixel limit: a warning, controlled by a global.
        image = image_class(BytesIO(data))
        width, height = image.size
    except MemoryError:
        raise
    except Warning as warning:
        problem = f"Pillow warns about it ({warning}), and warnings are errors in this program"
        raise DataError(f"{name}: {problem}; save it again, or allow Pillow's warnings") from warning
    except Exception as error:
        problem = f"cannot be read as an image, it is {_describe_content(data)}"
        raise DataError(f"{name}: {problem}; give a valid JPEG, PNG, TIFF or WebP file") from error
    if width * height > max_pixels:
        raise DataError(
            f"{name}: {width:,} x {height:,} pixels exceed the limit of {max_pixels:,}; make it smaller, "
            "or use a run with a larger --config.data.max_pixels"
        )
    _check_mode(image, name)
    return image


def _check_mode(image: Image.Image, name: str) -> None:
    if image.mode == "LAB":
        raise DataError(f"{name}: CIELAB with an unknown white point; save it as RGB")
    if image.mode in ("I", "F"):
        raise DataError(f"{name}: 32-bit or signed numbers of unknown scale; save it with 8 or 16 bits")


def _look_up(table: Mapping[bytes, T], data: bytes) -> T | None:
    return next((value for start, value in table.items() if re.match(start, data, re.DOTALL)), None)


def _describe_content(data: bytes) -> str:
    if found := _look_up(_FORMATS, data):
        return f"a {found.format}, damaged, truncated or unusual"
    if other := _look_up(_OTHERS, data):
        return other
    if re.fullmatch(rb"[\t\n\r\x20-\x7e]+", data[:256]):
        return f"text ({data[:20].decode()!r}...)"
    return f"of an unknown type (it starts with {data[:8].hex(' ')})"


def _apply_orientation(image: Image.Image) -> Image.Image:
    """Applies the EXIF orientation; for TIFF, Pillow has applied it while loading."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:
        return image  # the pixels are valid, only the metadata is damaged
    return image.transpose(_TRANSPOSES[orientation]) if orientation in _TRANSPOSES else image


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I;16"):
        return _from_16_bit_grey(image)
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _from_16_bit_grey(image: Image.Image) -> np.ndarray:
    values = np.asarray(image).astype(np.uint16)
    transparent = image.info.get("transparency")
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(_TIFF_BITS_PER_SAMPLE, (16,))[0]
    grey = (values >> (bits - 8)).astype(np.uint8)
    # Pillow inverts such TIFFs with 8 bits, but not with 16.
    if tags.get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO:
        grey = 255 - grey
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return np.repeat(grey[..., None], 3, axis=2)
