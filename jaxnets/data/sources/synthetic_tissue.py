"""Synthetic H&E-like lung tissue of three classes that differ in shape but not in colour.

An image is composed in continuous coordinates as one field of "levels", from empty space (0) over stroma and
cytoplasm to nuclei (1). The levels of every image are then mapped, quantile by quantile, to a random
distribution that does not depend on the class, and stained. So the colour histogram carries no information on
the class. The task is still easy, because the amount of contours differs too. High accuracy here shows only
that training works.
"""

import hashlib
import json
import math

import numpy as np

from jaxnets.data.batch import Example
from jaxnets.data.sources.base import Source
from jaxnets.data.sources.tissue_drawing import REACH, SMALLEST_CANVAS, Cells, Frame, blend, downsample, ramp

ALGORITHM_VERSION = 1  # increment it when any pixel of any image changes, which invalidates caches

CLASSES = ("adenocarcinoma", "benign", "squamous cell carcinoma")

# Lattice spacings of the four tessellations, as fractions of the image side at zoom 1.
_GLAND_SPACING, _ALVEOLUS_SPACING, _SQUAMOUS_SPACING, _PEARL_SPACING = 0.40, 0.34, 0.115, 0.80


class SyntheticTissue(Source):
    """Drawn glands (label 0), open alveoli (1) and squamous sheets (2), alternating by index.

    Has `num_examples` images of `image_size` x `image_size` px. The same (seed, index) shows the same field
    at every size, independent of the order and thread of access.
    """

    name = "synthetic_tissue"
    kind = "image"
    classes = CLASSES
    is_drawn = True
    official_split = None

    def __init__(self, num_examples: int, image_size: int, seed: int = 0):
        self._image_size, self._seed = int(image_size), int(seed)
        self.labels = np.arange(num_examples, dtype=np.int32) % len(CLASSES)
        self.labels.flags.writeable = False
        self.files = tuple(f"{self.name}/{index:06d}.png" for index in range(num_examples))
        self.groups = np.arange(num_examples)  # images are drawn independently

    @property
    def fingerprint(self) -> str:
        identity = [ALGORITHM_VERSION, len(self), self._image_size, self._seed, CLASSES]
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()

    def _read(self, index: int) -> Example:
        label, generator = self.labels[index], np.random.default_rng([self._seed, index])
        return {"image": _draw(generator, int(label), self._image_size), "label": label}


def _draw(generator: np.random.Generator, label: int, size: int) -> np.ndarray:
    """One image: uint8[size, size, 3]."""
    from scipy import ndimage  # slow to import

    shrink = max(1, math.ceil(SMALLEST_CANVAS / size))
    frame = Frame.random(generator, size * shrink)
    draw_kind = (_draw_glands, _draw_alveoli, _draw_squamous)[label]
    level = draw_kind(frame)
    level = level * (1 + 0.06 * frame.noise(60))
    red_cells = _red_cells(frame)
    blur = generator.uniform(0.0025, 0.0045) * frame.size
    level = downsample(ndimage.gaussian_filter(level, blur, mode="nearest", truncate=3), shrink)
    red_cells = downsample(red_cells, shrink)
    return _stain(generator, _equalise(generator, level), red_cells)


def _draw_glands(frame: Frame) -> np.ndarray:
    """Levels of adenocarcinoma: columnar cells in rings around lumina, fibrous stroma between."""
    generator = frame.generator
    cells = Cells.random(generator, _GLAND_SPACING, 0.24)
    gland, dx, dy, border = cells.find(frame.x, frame.y)
    gap, rim = generator.uniform(0.010, 0.020), generator.uniform(0.060, 0.072)
    radius = _GLAND_SPACING * generator.uniform(0.48, 0.56)
    rough, fine = frame.noise(12), frame.noise(24)
    depth = np.minimum(border, radius - np.hypot(dx, dy)) - gap + 0.004 * rough
    secretion = generator.choice([0.0, 0.0, 0.12], len(cells.sites) ** 2).astype(np.float32)
    columns = np.cos(np.arctan2(dy, dx) * 28)
    brush = ramp(depth - rim + 0.010, 0.01)
    cytoplasm = 0.52 + 0.05 * fine - 0.05 * columns + 0.10 * brush
    lumen = 0.06 + secretion.take(gland) + 0.04 * frame.noise(6)
    level = blend(_stroma(frame), cytoplasm, ramp(depth, 0.008))
    level = blend(level, lumen, ramp(depth - rim - 0.006 * fine, 0.012))
    points, across = cells.border_points(26, (gap + 0.018, gap + 0.042), radius)
    nuclei = frame.draw_ellipses(points, across, (0.019, 0.027), (0.012, 0.017))
    stromal = ramp(-0.005 - depth, 0.01) * _scattered_nuclei(frame)
    return blend(level, 0.95 + 0.04 * rough, np.maximum(nuclei, stromal))


def _draw_alveoli(frame: Frame) -> np.ndarray:
    """Levels of benign lung: large air spaces, thin walls with capillaries and few flat nuclei."""
    generator = frame.generator
    cells = Cells.random(generator, _ALVEOLUS_SPACING, 0.28)
    alveolus, _, _, border = cells.find(frame.x, frame.y)
    coarse, fine = frame.noise(7), frame.noise(24)
    thickness = generator.uniform(0.021, 0.027) * (1 + 0.25 * coarse)
    fluid = generator.choice([0, 0, 0, 0, 0.05, 0.10], len(cells.sites) ** 2).astype(np.float32)
    air = 0.05 + fluid.take(alveolus) + 0.03 * frame.noise(4)
    lining = ramp(0.007 - np.abs(border - thickness + 0.006), 0.008)
    wall = 0.48 + 0.07 * fine + 0.08 * lining
    level = blend(wall, air, ramp(border - thickness, 0.010))
    points, across = cells.border_points(12, (-0.004, 0.022))
    nuclei = frame.draw_ellipses(points, across + np.pi / 2, (0.018, 0.028), (0.010, 0.014))
    return blend(level, 0.95 + 0.04 * fine, nuclei)


def _draw_squamous(frame: Frame) -> np.ndarray:
    """Levels of squamous carcinoma: solid sheets of polygonal cells, whorled around keratin."""
    generator = frame.generator
    pearls = Cells.random(generator, _PEARL_SPACING, 0.2)
    coarse, rough, fine = frame.noise(4), frame.noise(9), frame.noise(24)
    pearl, dx, dy, _ = pearls.find(frame.x, frame.y)
    size = generator.uniform(0.08, 0.14, len(pearls.sites) ** 2).astype(np.float32).take(pearl)
    distance = np.hypot(dx, dy) * (1 + 0.16 * coarse)
    # Radii are stretched before the tessellation, so that cells are dense around a pearl.
    stretch = 0.07 * np.tanh((distance - size) * (1 / 0.07)) / np.maximum(distance, 0.02)
    cells = Cells.random(generator, _SQUAMOUS_SPACING, 0.33)
    cell, cell_x, cell_y, border = cells.find(frame.x + stretch * dx, frame.y + stretch * dy)
    own = generator.normal(0, 0.06, len(cells.sites) ** 2).astype(np.float32).take(cell)
    level = blend(0.18, 0.46 + own + 0.04 * fine + 0.03 * coarse, ramp(border - 0.003, 0.007))
    nuclei = _central_nuclei(cells, cell, cell_x, cell_y)
    keratin = ramp(size - distance, 0.02)
    lamella = np.sin((distance + 0.008 * rough) * np.float32(2 * np.pi / 0.04))
    level = blend(level, 0.50 + 0.16 * lamella + 0.06 * fine, keratin)
    sheet = np.abs(frame.noise(2) + 0.4 * coarse)
    cleft, stroma = ramp(0.34 - sheet, 0.08), ramp(0.22 - sheet, 0.08)
    level = blend(blend(level, 0.04, cleft), _stroma(frame), stroma)
    stromal = stroma * _scattered_nuclei(frame)
    nuclei = np.maximum(nuclei * (1 - keratin) * (1 - cleft), stromal)
    return blend(level, 0.95 + 0.04 * rough, nuclei)


def _central_nuclei(cells: Cells, cell: np.ndarray, dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """Round to oval nuclei in the centres of their cells, with random size and darkness."""
    generator, count = cells.generator, len(cells.sites) ** 2
    angle, ratio = generator.uniform(0, np.pi, count), np.sqrt(generator.uniform(1, 1.5, count))
    radius, depth = generator.uniform(0.021, 0.031, count), generator.uniform(0.75, 1, count)
    cosine, sine, long, short = np.cos(angle), np.sin(angle), radius * ratio, radius / ratio
    each = (cosine / long, sine / long, -sine / short, cosine / short, depth)
    a, b, c, d, depth = (values.astype(np.float32).take(cell) for values in each)
    u, v = a * dx + b * dy, c * dx + d * dy
    return depth * ramp(1 - np.sqrt(u * u + v * v), 0.4)


def _stroma(frame: Frame) -> np.ndarray:
    """Levels of loose connective tissue: wavy fibres with pale gaps between."""
    along = frame.generator.uniform(0, 2 * np.pi)
    across = frame.x * np.float32(np.cos(along)) + frame.y * np.float32(np.sin(along))
    wave, patch = frame.noise(5), frame.noise(14)
    fibres = np.sin(np.float32(2 * np.pi / 0.05) * across + 5 * wave + 0.8 * patch)
    return 0.34 + 0.06 * fibres * (1 + wave) + 0.08 * patch


def _scattered_nuclei(frame: Frame) -> np.ndarray:
    """Spindle nuclei of the stroma, all over the view."""
    generator, pitch = frame.generator, 0.09
    places = np.arange(-REACH, REACH, pitch)
    points = np.stack(np.meshgrid(places, places), axis=-1).reshape(-1, 2)
    points = points + generator.uniform(-pitch / 2, pitch / 2, points.shape)
    angles = generator.normal(generator.uniform(0, np.pi), 0.6, len(points))
    return frame.draw_ellipses(points, angles, (0.018, 0.028), (0.008, 0.012))


def _red_cells(frame: Frame) -> np.ndarray:
    """Red blood cells in a few loose clusters: coverage in [0, 1], with one distribution for all classes."""
    generator, count = frame.generator, 60
    crowd = generator.uniform(-0.8, 0.8, (6, 2))[generator.integers(0, 6, count)]
    points = crowd + generator.normal(0, 0.07, (count, 2))
    angles = generator.uniform(0, np.pi, count)
    return frame.draw_ellipses(points, angles, (0.014, 0.019), (0.012, 0.015))


def _equalise(generator: np.random.Generator, level: np.ndarray) -> np.ndarray:
    """Maps levels to a random distribution that does not depend on the class; their ranks do not change."""
    white, pale = generator.uniform(0.20, 0.32), generator.uniform(0.22, 0.32)
    nuclear, edge = generator.uniform(0.07, 0.12), generator.uniform(0.06, 0.10)
    fractions = [0, 0.8 * white, white, white + pale, 1 - nuclear - edge, 1 - nuclear, 1]
    value = np.array([0, 0.05, 0.12, 0.26, 0.60, 0.78, 1.0])
    value[1:-1] += generator.uniform(-0.02, 0.02, len(value) - 2)
    ranks = np.linspace(0, 1, 257)
    quantiles = np.sort(level, axis=None)[np.rint(ranks * (level.size - 1)).astype(np.intp)]
    return np.interp(level, quantiles, np.interp(ranks, fractions, value)).astype(np.float32)


def _stain(generator: np.random.Generator, level: np.ndarray, red_cells: np.ndarray) -> np.ndarray:
    """Levels [n, n] and coverage by red cells [n, n], stained and illuminated: uint8[n, n, 3]."""
    knots = [0, 0.14, 0.34, 0.6, 0.78, 1]
    eosin = np.array([0.03, 0.08, 0.28, 0.50, 0.52, 0.48]) * generator.uniform(0.8, 1.25)
    haematoxylin = np.array([0.015, 0.03, 0.07, 0.18, 0.55, 1.2]) * generator.uniform(0.8, 1.2)
    vectors = np.array([[0.09, 0.93, 0.32], [0.66, 0.70, 0.29], [0.22, 1.15, 0.85]])
    vectors = vectors + generator.normal(0, 0.05, (3, 3))
    steps = np.linspace(0, 1, 1024)
    amounts = np.stack([np.interp(steps, knots, dye) for dye in (eosin, haematoxylin)], axis=1)
    table = (amounts @ np.maximum(vectors[:2], 0.02)).astype(np.float32)
    density = table[np.clip(level * 1023 + 0.5, 0, 1023).astype(np.intp)]
    red = (np.maximum(vectors[2], 0.02) * generator.uniform(0.8, 1.1)).astype(np.float32)
    density = blend(density, red, red_cells[..., None])
    axis = ((np.arange(len(level), dtype=np.float32) + 0.5) / len(level) - 0.5)[None, :]
    tilt = generator.normal(0, 0.04, 2).astype(np.float32)
    fall = np.float32(generator.uniform(0, 0.15))
    light = 0.96 + tilt[0] * axis + tilt[1] * axis.T - fall * (axis**2 + axis.T**2)
    return np.clip(255 * light[..., None] * np.exp(-density) + 0.5, 0, 255).astype(np.uint8)
