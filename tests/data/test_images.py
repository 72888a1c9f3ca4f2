import io
import os
import socket
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jaxnets.data.images import all_unreadable, decode_image, read_image, resize_image
from jaxnets.errors import DataError

WHITE = 255


def smooth_image(height=12, width=16, channels=3, seed=0):
    """Returns a smooth image without symmetry, which JPEG preserves and rotations change."""
    y, x, c = np.mgrid[:height, :width, :channels]
    return (7 * y + 5 * x + 40 * c + seed).astype(np.uint8)


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(values, colour_type, *, bits=16, size=None, extra=b""):
    """Returns a PNG; Pillow cannot write 16-bit RGB. `extra` chunks precede the pixels."""
    height, width = size or values.shape[:2]
    rows = b"".join(b"\0" + row.astype(f">u{bits // 8}").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(rows))
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + extra + pixels + chunk(b"IEND", b"")


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def tiff(pixels, width, height, *, samples=1, bits=16, photometric=1, endian="<", tags=()):
    """Returns a TIFF of one strip, followed by the directory and the bits per sample."""
    start = 8 + len(pixels)
    entries = [
        (256, width),
        (257, height),
        (258, bits),
        (259, 1),
        (262, photometric),
        (273, 8),
        (277, samples),
        (278, height),
        (279, len(pixels)),
        *tags,
    ]
    after = start + 2 + 12 * len(entries) + 4
    directory = struct.pack(endian + "H", len(entries))
    for tag, value in entries:
        if tag == 258 and samples > 2:
            directory += struct.pack(endian + "HHII", tag, 3, samples, after)
        else:
            directory += struct.pack(endian + "HHIHH", tag, 3, 1, value, 0)
    directory += struct.pack(endian + "I", 0) + struct.pack(endian + "H", bits) * samples
    magic = b"II*\0" if endian == "<" else b"MM\0*"
    return magic + struct.pack(endian + "I", start) + pixels + directory


def grey_to_rgb(values):
    return np.repeat(values[..., None], 3, axis=2)


@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("TIFF", {"compression": "tiff_lzw"}), ("WEBP", {"lossless": True})]
)
def test_lossless_rgb_is_exact(kind, options):
    pixels = smooth_image()
    decoded = decode_image(encoded(Image.fromarray(pixels), kind, **options), "a")
    np.testing.assert_array_equal(decoded, pixels)
    assert decoded.dtype == np.uint8
    assert decoded.flags.writeable


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg_is_close_to_the_original(mode):
    y, x, c = np.mgrid[:64, :64, :3]
    image = Image.fromarray((2 * y + x + 20 * c).astype(np.uint8)).convert(mode)
    decoded = decode_image(encoded(image, "JPEG", quality=95), "a.jpg")
    expected = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(decoded - expected).mean() < 3


def test_cmyk_is_converted_to_rgb():
    inks = {(255, 0, 0, 0): (0, 255, 255), (0, 255, 0, 0): (255, 0, 255), (0, 0, 0, 255): (0, 0, 0)}
    for ink, colour in inks.items():
        data = encoded(Image.new("CMYK", (16, 16), ink), "JPEG", quality=95)
        difference = np.abs(decode_image(data, "a.jpg").astype(int) - colour)
        assert difference.max() <= 4, ink


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_grey_and_one_bit(kind):
    values = smooth_image(channels=1)[..., 0]
    grey = decode_image(encoded(Image.fromarray(values), kind), "a")
    np.testing.assert_array_equal(grey, grey_to_rgb(values))
    bits = values > 90
    black_white = decode_image(encoded(Image.fromarray(bits), kind), "a")
    np.testing.assert_array_equal(black_white, grey_to_rgb(np.where(bits, WHITE, 0)))


def test_palette():
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([0, 1, 2])
    red, green, blue = [255, 0, 0], [0, 255, 0], [0, 0, 255]
    assert decode_image(encoded(image, "PNG"), "a").tolist() == [[red, green, blue]]
    one = encoded(image, "PNG", transparency=1)
    assert decode_image(one, "a").tolist() == [[red, [WHITE] * 3, blue]]
    some = encoded(image, "PNG", transparency=bytes([255, 0, 51]))
    assert decode_image(some, "a").tolist() == [[red, [WHITE] * 3, [204, 204, 255]]]


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True})])
def test_rgba_is_composited_onto_white(kind, options):
    colours = np.array([[[200, 100, 0, 255], [200, 100, 0, 0], [200, 100, 0, 51]]], np.uint8)
    data = (
        encoded(Image.fromarray(colours), kind, exact=True, **options)
        if kind == "WEBP"
        else (encoded(Image.fromarray(colours), kind))
    )
    # The last pixel is 20 % of (200, 100, 0) and 80 % white.
    assert decode_image(data, "a").tolist() == [[[200, 100, 0], [255] * 3, [244, 224, 204]]]


def test_grey_with_alpha_is_composited_onto_white():
    data = encoded(Image.fromarray(np.array([[[100, 255], [100, 0], [0, 51]]], np.uint8)), "PNG")
    assert decode_image(data, "a")[0, :, 0].tolist() == [100, 255, 204]


@pytest.mark.parametrize(
    ("colour_type", "value", "bits"), [(0, [77], 8), (2, [77, 78, 79], 8), (0, [0x4D31], 16)]
)
def test_transparent_colour_of_a_png_is_white(colour_type, value, bits):
    scale = 1 if bits == 8 else 256
    values = np.array([[value, [v + scale for v in value]]])
    transparent = chunk(b"tRNS", struct.pack(f">{len(value)}H", *value))
    decoded = decode_image(png(values, colour_type, bits=bits, extra=transparent), "a")
    opaque = [(v + scale) // scale for v in value]
    assert decoded.tolist() == [[[WHITE] * 3, opaque * (3 // len(opaque))]]


SIXTEEN = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)


@pytest.mark.parametrize("endian", ["<", ">"])
def test_16_bit_grey_is_scaled_and_not_clipped(endian):
    expected = grey_to_rgb((SIXTEEN >> 8).astype(np.uint8))
    pixels = SIXTEEN.astype(endian + "u2").tobytes()
    np.testing.assert_array_equal(decode_image(png(SIXTEEN, 0), "a"), expected)
    np.testing.assert_array_equal(decode_image(tiff(pixels, 64, 64, endian=endian), "a"), expected)


@pytest.mark.parametrize("endian", ["<", ">"])
def test_16_bit_rgb_is_scaled(endian):
    values = np.stack([SIXTEEN, SIXTEEN[::-1], SIXTEEN.T], axis=-1)
    expected = (values >> 8).astype(np.uint8)
    pixels = values.astype(endian + "u2").tobytes()
    np.testing.assert_array_equal(decode_image(png(values, 2), "a"), expected)
    data = tiff(pixels, 64, 64, samples=3, photometric=2, endian=endian)
    np.testing.assert_array_equal(decode_image(data, "a"), expected)


def test_8_bit_values_widened_to_16_bit_are_restored():
    values = np.arange(256, dtype=np.uint16).reshape(16, 16)
    decoded = decode_image(png(values * 257, 0), "a")
    np.testing.assert_array_equal(decoded, grey_to_rgb(values.astype(np.uint8)))


def test_12_bit_tiff_is_scaled():
    values = np.arange(4096).reshape(64, 64)
    first, second = values.ravel()[::2], values.ravel()[1::2]
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=-1)
    data = tiff(packed.astype(np.uint8).tobytes(), 64, 64, bits=12)
    np.testing.assert_array_equal(decode_image(data, "a"), grey_to_rgb((values >> 4).astype(np.uint8)))


def test_16_bit_tiff_with_white_at_zero():
    data = tiff(SIXTEEN.astype("<u2").tobytes(), 64, 64, photometric=0)
    expected = grey_to_rgb(255 - (SIXTEEN >> 8).astype(np.uint8))
    np.testing.assert_array_equal(decode_image(data, "a"), expected)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_32_bit_images_raise(mode):
    with pytest.raises(DataError, match=r"^cells\.tif: .*unknown scale; save it"):
        decode_image(encoded(Image.new(mode, (4, 4)), "TIFF"), "cells.tif")


def test_cielab_raises():
    with pytest.raises(DataError, match=r"^cells\.tif: CIELAB with an unknown white point; save it"):
        decode_image(encoded(Image.new("LAB", (4, 4)), "TIFF"), "cells.tif")


ORIENTED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a),
    9: lambda a: a,
}


@pytest.mark.parametrize("orientation", ORIENTED)
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_orientation_is_applied(orientation, kind):
    pixels = smooth_image()
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(Image.fromarray(pixels), kind, exif=exif, **options)
    np.testing.assert_array_equal(decode_image(data, "a"), ORIENTED[orientation](pixels))


def test_orientation_of_16_bit_grey_and_of_jpeg():
    exif = Image.Exif()
    exif[0x0112] = 6
    grey = encoded(Image.fromarray(SIXTEEN), "PNG", exif=exif)
    np.testing.assert_array_equal(
        decode_image(grey, "a")[..., 0], np.rot90((SIXTEEN >> 8).astype(np.uint8), -1)
    )
    image = Image.fromarray(smooth_image())
    upright = decode_image(encoded(image, "JPEG"), "a")
    rotated = decode_image(encoded(image, "JPEG", exif=exif), "a")
    np.testing.assert_array_equal(rotated, np.rot90(upright, -1))


def test_damaged_exif_is_ignored_without_changing_warning_filters():
    image = Image.fromarray(smooth_image())
    plain = decode_image(encoded(image, "JPEG"), "a")
    exif = Image.Exif()
    exif[0x0112] = 6
    block = exif.tobytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = list(warnings.filters)
        for damaged in (block[:12], block[:17], b"Exif\0\0garbage", block[:8] + b"\xff" * 40):
            decoded = decode_image(encoded(image, "JPEG", exif=damaged), "a")
            np.testing.assert_array_equal(decoded, plain)
        assert warnings.filters == before


def test_pillow_warning_as_error_raises_data_error():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.fromarray(smooth_image()), "JPEG", exif=exif.tobytes()[:17])
    with pytest.raises(DataError, match="^a: Pillow warns about it .* warnings are errors .*; save it again"):
        decode_image(data, "a")  # all warnings are errors in tests


@pytest.mark.parametrize("kind", ["fifo", "socket", "device"])
def test_special_files_raise(tmp_path, kind):
    path = tmp_path / "x.png"
    with socket.socket(socket.AF_UNIX) as server:
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "socket":
            server.bind(str(path))
        else:
            path.symlink_to("/dev/zero")
        with pytest.raises(DataError, match=f"(?i)x.png: cannot be read .it is a {kind}."):
            read_image(path)


def test_icc_profile_is_ignored():
    pixels = smooth_image()
    data = encoded(Image.fromarray(pixels), "PNG", icc_profile=b"not even a profile")
    np.testing.assert_array_equal(decode_image(data, "a"), pixels)


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True})])
def test_first_frame_is_decoded(kind, options):
    first, second = smooth_image(), smooth_image(seed=99)
    data = encoded(
        Image.fromarray(first), kind, save_all=True, append_images=[Image.fromarray(second)], **options
    )
    assert Image.open(io.BytesIO(data)).n_frames == 2
    np.testing.assert_array_equal(decode_image(data, "a"), first)


PHOTOGRAPH = encoded(Image.fromarray(smooth_image(64, 64)), "JPEG")


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", r"empty \(0 bytes\)"),
        (b"Not an image.\n", r"text \('Not an image\.\\n'\.\.\.\)"),
        (b"<!DOCTYPE html><html>404</html>", "an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer"),
        (encoded(Image.new("RGB", (4, 4)), "GIF"), "a GIF"),
        (b"\x00\x01\x02\x03 and so on", "of an unknown type"),
        (PHOTOGRAPH[:20], "a JPEG, damaged, truncated"),
        (PHOTOGRAPH[: len(PHOTOGRAPH) // 2], "the JPEG is damaged or truncated"),
        (PHOTOGRAPH[:-10], "the JPEG is damaged or truncated"),
    ],
)
def test_error_names_the_file_the_problem_and_a_remedy(data, problem):
    with pytest.raises(DataError, match=rf"^folder/x\.jpg: .*{problem}.*; .*") as caught:
        decode_image(data, "folder/x.jpg")
    assert "\n" not in str(caught.value)


FILES = {
    "JPEG": PHOTOGRAPH,
    "PNG": encoded(Image.fromarray(smooth_image(64, 64)), "PNG"),
    "TIFF": encoded(Image.fromarray(smooth_image(64, 64)), "TIFF", compression="tiff_lzw"),
    "WEBP": encoded(Image.fromarray(smooth_image(64, 64)), "WEBP"),
}


@pytest.mark.parametrize("kind", FILES)
@given(st.data())
@settings(max_examples=60, deadline=None)
def test_truncated_file_raises_or_decodes_fully(kind, data):
    original = FILES[kind]
    truncated = original[: data.draw(st.integers(0, len(original) - 1))]
    try:
        decoded = decode_image(truncated, "a")
    except DataError:
        return
    np.testing.assert_array_equal(decoded, decode_image(original, "a"))


@pytest.mark.parametrize("kind", FILES)
@given(st.data())
@settings(max_examples=60, deadline=None)
def test_damaged_file_gives_an_image_or_a_data_error(kind, data):
    damaged = bytearray(FILES[kind])
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        decoded = decode_image(bytes(damaged), "a", max_pixels=1_000_000)
    except DataError:
        return
    assert decoded.dtype == np.uint8
    assert decoded.shape[2] == 3


@pytest.mark.parametrize("side", [10_001, 14_000, 100_000])
def test_too_many_pixels_in_the_header_raise(side):
    # The file has no pixels: decoding would fail with "truncated".
    data = png(np.zeros((1, 1, 3)), 2, bits=8, size=(side, side))
    with pytest.raises(DataError, match=r"^bomb\.png: .*pixels.*; make it smaller"):
        decode_image(data, "bomb.png")


def test_max_pixels_is_exact():
    data = encoded(Image.fromarray(smooth_image(10, 20)), "PNG")
    assert decode_image(data, "a", max_pixels=200).shape == (10, 20, 3)
    with pytest.raises(DataError, match=r"20 x 10 pixels exceed the limit of 199"):
        decode_image(data, "a", max_pixels=199)


def test_no_warning_between_pillows_limit_and_ours():
    limit = Image.MAX_IMAGE_PIXELS
    data = png(np.zeros((1, 1, 3)), 2, bits=8, size=(9_500, 9_500))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(DataError, match="truncated"):
            decode_image(data, "a")
    assert caught == []
    assert limit == Image.MAX_IMAGE_PIXELS


def test_decoding_is_thread_safe():
    files = [encoded(Image.fromarray(smooth_image(seed=i)), "PNG") for i in range(64)]
    with ThreadPoolExecutor(8) as threads:
        for i, decoded in enumerate(threads.map(lambda data: decode_image(data, "a"), files)):
            np.testing.assert_array_equal(decoded, smooth_image(seed=i))


def test_read_image(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(FILES["PNG"])
    np.testing.assert_array_equal(read_image(path), smooth_image(64, 64))
    for missing in (tmp_path / "b.png", tmp_path):
        with pytest.raises(DataError, match=rf"^{missing}: cannot be read \(.+\); check the path"):
            read_image(missing)


def test_resizing_to_the_same_size_does_not_copy():
    image = smooth_image(20, 20)
    assert resize_image(image, 20, "crop") is image


@pytest.mark.parametrize("method", ["crop", "stretch"])
def test_resizing_a_square_matches_pillow_bicubic(method):
    image = smooth_image(48, 48)
    expected = Image.fromarray(image).resize((14, 14), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(resize_image(image, 14, method), np.asarray(expected))


@pytest.mark.parametrize("size", [10, 40])
def test_crop_resizes_the_shorter_side_and_keeps_the_centre(size):
    image = np.random.default_rng(0).integers(0, 256, (20, 60, 3), np.uint8)
    resized = np.asarray(Image.fromarray(image).resize((3 * size, size), Image.Resampling.BICUBIC))
    for rotated, expected in (
        (image, resized[:, size : 2 * size]),
        (image.swapaxes(0, 1), resized[:, size : 2 * size].swapaxes(0, 1)),
    ):
        difference = resize_image(rotated, size, "crop").astype(int) - expected
        assert np.abs(difference).max() <= 1


def test_stretch_keeps_the_full_image():
    image = np.zeros((20, 60, 3), np.uint8)
    image[:, :20] = 200
    resized = resize_image(image, 30, "stretch")
    assert resized[:, 2, 0].min() > 190
    assert resized[:, -2, 0].max() < 10
    assert resize_image(image, 30, "crop").max() < 50


def test_resizing_one_channel():
    grey = smooth_image(20, 30)[..., :1]
    three = resize_image(np.repeat(grey, 3, axis=2), 8, "crop")
    one = resize_image(grey, 8, "crop")
    assert one.shape == (8, 8, 1)
    np.testing.assert_array_equal(one, three[..., :1])


def test_unknown_resize_method_raises():
    with pytest.raises(ValueError, match="method"):
        resize_image(smooth_image(), 8, "squash")


def test_many_errors_are_summarised_in_one_line():
    errors = [f"{name}.png: the file is empty" for name in "ba"]
    assert str(all_unreadable(errors)) == "a.png: the file is empty (also b.png)"
    many = str(all_unreadable([f"{number:02d}.png: the file is empty" for number in range(99)]))
    assert "09.png and 89 more)" in many
    assert "10.png" not in many
