"""Ten small synthetic data sets: few images, unbalanced, greyscale or of unusual shapes.

`FOLDERS` lists them; `draw(name, parent)` writes one, always with the same images.
"""

import colorsys
import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw


@dataclasses.dataclass(frozen=True)
class Folder:
    """Images per class, what they show, their sizes (width, height) in pixels, and their file type."""

    counts: tuple[int, ...]
    kind: str
    sizes: tuple[tuple[int, int], ...] = ((96, 96),)
    suffix: str = "png"


FOLDERS = {
    "two_of_120": Folder((120, 120), "texture", ((100, 100),)),
    "two_of_10": Folder((10, 10), "shape"),
    "three_uneven": Folder((90, 30, 10), "colour"),
    "three_wide": Folder((40, 40, 40), "shape", ((220, 60), (50, 180), (96, 96))),
    "four_grey": Folder((30,) * 4, "grey", ((80, 80),)),
    "five_of_40": Folder((40,) * 5, "shape"),
    "two_large": Folder((30, 30), "texture", ((480, 360), (360, 480)), "jpg"),
    "eight_uneven": Folder((10, 15, 20, 25, 30, 10, 15, 20), "mixed", ((32, 32),)),
    "ten_of_25": Folder((25,) * 10, "mixed", ((96, 96),), "jpg"),
    "twenty_of_15": Folder((15,) * 20, "mixed", ((72, 72), (96, 72))),
}


def draw(name: str, parent: Path) -> Path:
    """Writes the images of one folder below `parent` unless it exists, and returns its path."""
    folder, target = FOLDERS[name], parent / name
    if target.is_dir():
        return target
    generator = np.random.default_rng([*name.encode()])
    unfinished = parent / f".{name}"
    for label, count in enumerate(folder.counts):
        (unfinished / f"class{label:02d}").mkdir(parents=True, exist_ok=True)
        for number in range(count):
            size = folder.sizes[number % len(folder.sizes)]
            picture = KINDS[folder.kind](generator, label, size)
            picture.save(unfinished / f"class{label:02d}" / f"{number:03d}.{folder.suffix}")
    return unfinished.rename(target)


def _ground(generator: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """A patchy background with grain."""
    width, height = size
    coarse = generator.uniform(60, 200, (4, 4, 3)).astype(np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC), np.float64)
    grain = generator.normal(0, 12, (height, width, 1))
    return Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8))


def _any_colour(generator: np.random.Generator) -> tuple[int, int, int]:
    return tuple(int(value) for value in generator.integers(0, 256, 3))  # type: ignore[return-value]


def _hue(generator: np.random.Generator, label: int, labels: int) -> tuple[int, int, int]:
    hue = (label + generator.uniform(-0.25, 0.25)) / labels
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, generator.uniform(0.6, 1), generator.uniform(0.6, 1))
    return int(255 * red), int(255 * green), int(255 * blue)


def _place(
    picture: Image.Image, generator: np.random.Generator, form: int, colour: tuple[int, int, int]
) -> None:
    """Draws one of five forms: disc, ring, triangle, cross, star of five points."""
    width, height = picture.size
    radius = min(picture.size) * generator.uniform(0.22, 0.36)
    x, y = generator.uniform(0.4, 0.6) * width, generator.uniform(0.4, 0.6) * height
    turn, pen = generator.uniform(0, 2 * np.pi), ImageDraw.Draw(picture)
    box = (x - radius, y - radius, x + radius, y + radius)
    if form == 0:
        pen.ellipse(box, fill=colour)
    elif form == 1:
        pen.ellipse(box, outline=colour, width=max(2, int(radius / 4)))
    elif form == 3:
        for angle in (turn, turn + np.pi / 2):
            dx, dy = radius * np.cos(angle), radius * np.sin(angle)
            pen.line((x - dx, y - dy, x + dx, y + dy), fill=colour, width=max(2, int(radius / 3)))
    else:
        corners, inner = (3, 1.0) if form == 2 else (10, 0.4)
        radii = radius * np.where(np.arange(corners) % 2, inner, 1.0)
        angles = turn + 2 * np.pi * np.arange(corners) / corners
        pen.polygon(
            [
                (float(a), float(b))
                for a, b in zip(x + radii * np.cos(angles), y + radii * np.sin(angles), strict=True)
            ],
            fill=colour,
        )


def _shape(generator: np.random.Generator, label: int, size: tuple[int, int]) -> Image.Image:
    picture = _ground(generator, size)
    _place(picture, generator, label, _any_colour(generator))
    return picture


def _colour(generator: np.random.Generator, label: int, size: tuple[int, int]) -> Image.Image:
    picture = _ground(generator, size)
    _place(picture, generator, int(generator.integers(5)), _hue(generator, label, 3))
    return picture


def _mixed(generator: np.random.Generator, label: int, size: tuple[int, int]) -> Image.Image:
    """Up to 20 classes: five forms in four colours."""
    picture = _ground(generator, size)
    _place(picture, generator, label % 5, _hue(generator, label // 5, 4))
    return picture


def _waves(generator: np.random.Generator, label: int, size: tuple[int, int]) -> np.ndarray:
    """Stripes of two directions and two widths, float[H, W] in [-1, 1]."""
    width, height = size
    row, column = np.mgrid[:height, :width] / min(size)
    angle = np.pi / 2 * (label % 2) + generator.uniform(-0.3, 0.3)
    along = column * np.cos(angle) + row * np.sin(angle)
    count = (7 if label < 2 else 16) * generator.uniform(0.85, 1.15)
    return np.sin(2 * np.pi * count * along + generator.uniform(0, 6.3))


def _texture(generator: np.random.Generator, label: int, size: tuple[int, int]) -> Image.Image:
    ground = np.asarray(_ground(generator, size), np.float64)
    waves = generator.uniform(15, 40) * _waves(generator, label, size)[..., None]
    return Image.fromarray(np.clip(ground + waves, 0, 255).astype(np.uint8))


def _grey(generator: np.random.Generator, label: int, size: tuple[int, int]) -> Image.Image:
    return _texture(generator, label, size).convert("L")


KINDS: dict[str, Callable[[np.random.Generator, int, tuple[int, int]], Image.Image]] = {
    "shape": _shape,
    "colour": _colour,
    "mixed": _mixed,
    "texture": _texture,
    "grey": _grey,
}
