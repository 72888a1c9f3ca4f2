"""Copies of a photograph whose origin is known: augmented like LC25000, or more strongly."""

import dataclasses
import io
import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Ranges of the random changes; every draw is uniform.

    Attributes:
      degrees: The largest rotation, in both directions.
      smallest_crop: The least area of the crop before it is rotated, as a fraction of the image's.
      stretch: The largest zoom of each axis; both axes are drawn, so their ratio is at most its square.
      colour: The largest relative change of brightness, contrast and saturation.
      hue: The largest shift of the hue, in turns.
      blur: The largest standard deviation of a Gaussian blur, in pixels.
      quality: The range of JPEG qualities.
    """

    degrees: float
    smallest_crop: float = 1.0
    stretch: float = 1.25
    colour: float = 0.0
    hue: float = 0.0
    blur: float = 0.0
    quality: tuple[int, int] = (75, 75)

    def __call__(self, image: Image.Image, generator: np.random.Generator) -> Image.Image:
        """Returns a copy of the same size that contains only pixels of the image, decoded from JPEG."""
        uniform = generator.uniform
        copy = self._warp(image, generator)
        if self.colour:
            for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
                copy = enhance(copy).enhance(1 + uniform(-self.colour, self.colour))
        if self.hue:
            copy = _shift_hue(copy, uniform(-self.hue, self.hue))
        if self.blur:
            copy = copy.filter(ImageFilter.GaussianBlur(uniform(0, self.blur)))
        low, high = self.quality
        return through_jpeg(copy, int(generator.integers(low, high + 1)))

    def _warp(self, image: Image.Image, generator: np.random.Generator) -> Image.Image:
        """Rotates, mirrors, crops and zooms in one interpolation."""
        uniform = generator.uniform
        width, height = image.size
        angle = math.radians(uniform(-self.degrees, self.degrees))
        cosine, sine = math.cos(angle), math.sin(angle)
        box = math.sqrt(uniform(self.smallest_crop, 1.0))  # side of the crop's bounding box
        inner = box / (abs(cosine) + abs(sine))  # side of the largest square of this angle inside the box
        zoom = inner / uniform(1.0, self.stretch, 2)  # seen fraction of the image along the copy's axes
        zoom *= generator.choice((-1, 1), 2)  # mirrors
        centre = 0.5 + uniform(-0.5, 0.5, 2) * (1 - box)
        # Maps the copy's pixels to the image's, as Pillow expects.
        matrix = np.array([[cosine, -sine], [sine, cosine]]) * zoom
        offset = centre * (width, height) - matrix @ (np.array([width, height]) / 2)
        (a, b), (d, e) = matrix
        affine = (a, b, offset[0], d, e, offset[1])
        return image.transform(image.size, Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC)


PUBLISHED = Augmentation(degrees=25)
"""Like LC25000: rotations up to 25 degrees, mirrors, a zoom per axis, JPEG (Borkowski et al., 2019)."""
HARDER = Augmentation(degrees=180, smallest_crop=0.5, colour=0.2, hue=0.03, blur=1.5, quality=(50, 90))
"""Any rotation, crops down to half of the area, and changes of colour and sharpness."""


def through_jpeg(image: Image.Image, quality: int) -> Image.Image:
    """Compresses and decodes an image."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def _shift_hue(image: Image.Image, turns: float) -> Image.Image:
    hue, saturation, value = image.convert("HSV").split()
    table: Callable[[int], int] = lambda level: round(level + 256 * turns) % 256  # noqa: E731
    return Image.merge("HSV", (hue.point(table), saturation, value)).convert("RGB")
