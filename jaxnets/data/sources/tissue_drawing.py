"""Drawing primitives for tissue: warped coordinates, random tessellations, soft ellipses and noise."""

import functools
import math
import operator
from dataclasses import dataclass

import numpy as np

SMALLEST_CANVAS = 128  # smaller images are drawn at this size or larger and then downsampled
REACH = 1.0  # the largest distance of the tissue frame from the centre, at any zoom and rotation
SOFT = 0.45  # the edge width of a nucleus or a red cell, as a fraction of its radius


@dataclass(frozen=True)
class Frame:
    """A square field of view with centre 0 and side 1, in the warped coordinates of the tissue frame.

    `x`, `y`: float32[n, n], the position of each canvas pixel in the tissue frame, which is the view
    rotated, zoomed and warped by a few long waves (so that there are no straight lines).
    """

    generator: np.random.Generator
    size: int
    x: np.ndarray
    y: np.ndarray
    turn: np.ndarray
    waves: np.ndarray

    @classmethod
    def random(cls, generator: np.random.Generator, size: int) -> "Frame":
        """A frame of `size` px with random rotation, reflection, zoom (0.85 to 1.2) and waves."""
        angle, zoom = generator.uniform(0, 2 * np.pi), generator.uniform(0.85, 1.2)
        cosine, sine = zoom * np.cos(angle), zoom * np.sin(angle)
        mirror = generator.choice([-1, 1])
        turn = np.array([[cosine, -sine], [mirror * sine, mirror * cosine]])
        direction, way = generator.uniform(0, 2 * np.pi, (2, 3))
        number = 2 * np.pi / generator.uniform(0.3, 0.8, 3)
        phase = generator.uniform(0, 2 * np.pi, 3)
        # A height under 1 / (3 number) keeps the warped frame from folding over itself.
        height = generator.uniform(0.08, 0.22, 3) / number
        vectors = [f(angles) for angles in (direction, way) for f in (np.cos, np.sin)]
        scales = [number, number, height, height]
        number_x, number_y, along_x, along_y = np.multiply(scales, vectors)
        waves = np.stack([number_x, number_y, phase, along_x, along_y], axis=1)
        axis = ((np.arange(size, dtype=np.float32) + 0.5) / size - 0.5)[None, :]
        straight = [axis * np.float32(a) + axis.T * np.float32(b) for a, b in turn]
        x, y = straight + displacement(waves, *straight)
        return cls(generator, size, x, y, turn, waves)

    def noise(self, cells: int) -> np.ndarray:
        """Smooth noise of mean 0, variance about 1 and wavelength 1 / `cells` of the view."""
        knots = self.generator.standard_normal((cells + 3, cells + 3)).astype(np.float32)
        place = (np.arange(self.size) + 0.5) / self.size * cells
        knot = place.astype(np.intp)
        t = (place - knot).astype(np.float32)
        taps = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, 3 * (t + t**2 - t**3) + 1, t**3)
        # Cubic B-splines keep 151 / 315 of the variance of their knots along each axis.
        scale = np.float32(math.sqrt(315 / 151) / 6)
        weights = [(scale * tap)[:, None] for tap in taps]
        one_axis = functools.reduce(operator.add, (w * knots[knot + k] for k, w in enumerate(weights)))
        turned = np.ascontiguousarray(one_axis.T)
        return functools.reduce(operator.add, (w * turned[knot + k] for k, w in enumerate(weights)))

    def draw_ellipses(
        self, points: np.ndarray, angles: np.ndarray, long: tuple[float, float], short: tuple[float, float]
    ) -> np.ndarray:
        """The maximum of many soft ellipses of random size and depth: float32[n, n] in [0, 1].

        `points` [N, 2], `angles` [N] and the ranges of both semi-axes are in the tissue frame.
        """
        shape, zoom = len(points), math.sqrt(abs(np.linalg.det(self.turn)))
        scale = self.size / zoom
        half_axes = [self.generator.uniform(*axis, shape) * scale for axis in (long, short)]
        depths = self.generator.uniform(0.75, 1, shape)
        straight = points
        for _ in range(2):  # inverts the waves
            straight = points - displacement(self.waves, *straight.T).T
        centres = (straight @ np.linalg.inv(self.turn).T + 0.5) * self.size - 0.5
        cosine, sine = np.linalg.solve(self.turn / zoom, np.stack([np.cos(angles), np.sin(angles)]))
        reach = math.ceil((1 + SOFT / 2) * long[1] * scale)
        visible = np.all((centres > -reach) & (centres < self.size + reach), axis=1)
        columns = [*centres.T, cosine, sine, *half_axes, depths]
        x, y, cosine, sine, long_axis, short_axis, depths = (
            values[visible, None, None] for values in columns
        )
        offset = np.arange(-reach, reach + 2)
        column = np.floor(x).astype(np.intp) + offset
        row = np.floor(y).astype(np.intp) + offset[:, None]
        dx, dy = column - x, row - y
        along = (dx * (cosine / long_axis) + dy * (sine / long_axis)).astype(np.float32)
        across = (dy * (cosine / short_axis) - dx * (sine / short_axis)).astype(np.float32)
        value = depths.astype(np.float32) * ramp(1 - np.sqrt(along**2 + across**2), SOFT)
        inside = (column >= 0) & (column < self.size) & (row >= 0) & (row < self.size) & (value > 0)
        canvas = np.zeros(self.size**2, np.float32)
        np.maximum.at(canvas, (row * self.size + column)[inside], value[inside])
        return canvas.reshape(self.size, self.size)


@dataclass(frozen=True)
class Cells:
    """A random Voronoi tessellation: jittered sites [K, K, 2] on a square lattice with `spacing`."""

    generator: np.random.Generator
    spacing: float
    sites: np.ndarray

    @classmethod
    def random(cls, generator: np.random.Generator, spacing: float, jitter: float) -> "Cells":
        """Sites over the tissue frame and two cells beyond, with a random offset."""
        count = math.ceil(2 * REACH / spacing) + 5
        lattice = np.stack(np.meshgrid(*[np.arange(count)] * 2, indexing="ij"), axis=-1) + 0.5
        lattice += generator.uniform(-jitter, jitter, lattice.shape)
        lattice += generator.uniform(-0.5, 0.5, 2) - count / 2
        return cls(generator, spacing, lattice * spacing)

    def find(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """For every point: its cell (flat index), the vector from the cell's site, and its depth.

        The depth is half the difference of the distances to the two nearest sites: 0 on a border, and smaller
        in corners than along sides, which rounds the cells.
        """
        count = len(self.sites)
        site_x, site_y = np.ascontiguousarray(self.sites.reshape(-1, 2).T, np.float32)
        column, row = (
            np.clip((v * (1 / self.spacing) + count / 2).astype(np.intp), 1, count - 2) for v in (x, y)
        )
        corner = (column - 1) * count + row - 1
        best = second = np.full(x.shape, np.inf, np.float32)
        nearest = np.zeros(x.shape, np.intp)
        for shift in (a * count + b for a in range(3) for b in range(3)):
            dx, dy = x - site_x[shift:].take(corner), y - site_y[shift:].take(corner)
            square = dx * dx + dy * dy
            nearest = np.where(square < best, shift, nearest)
            second = np.minimum(second, np.maximum(best, square))
            best = np.minimum(best, square)
        nearest += corner
        depth = (np.sqrt(second) - np.sqrt(best)) * np.float32(0.5)
        return nearest, x - site_x.take(nearest), y - site_y.take(nearest), depth

    def border_points(
        self, spokes: int, depths: tuple[float, float], radius: float = math.inf
    ) -> tuple[np.ndarray, np.ndarray]:
        """About `spokes` points per cell near its border, [N, 2], and the angles [N] across the border.

        Their depths, as in `find`, are in the range `depths`, or they are as deep inside a circle of `radius`
        about the site if that is closer to it. Crowded points are dropped.
        """
        generator, count = self.generator, len(self.sites)
        inner = self.sites[2:-2, 2:-2].reshape(-1, 1, 2)
        visible = np.hypot(*inner[:, 0].T) < REACH + self.spacing / 2
        step = 2 * np.pi / spokes
        angle = generator.uniform(-0.3, 0.3, (len(inner), spokes)) + np.arange(spokes)
        angle, depth = angle * step, generator.uniform(*depths, angle.shape)
        draw = generator.uniform(size=angle.shape)
        around = [(a, b) for a in range(5) for b in range(5) if (a, b) != (2, 2)]
        others = np.stack(
            [self.sites[a : count - 4 + a, b : count - 4 + b].reshape(-1, 2) for a, b in around], 1
        )
        inner, angle, depth, draw = inner[visible], angle[visible], depth[visible], draw[visible]
        apart = others[visible] - inner
        square = np.sum(apart**2, axis=-1)[:, None]
        ray = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
        # |p - other| - |p - site| is twice the depth on a hyperbola, which the ray may not meet.
        facing = 2 * (ray @ apart.transpose(0, 2, 1)) + 4 * depth[..., None]
        reach = (square - 4 * depth[..., None] ** 2) / np.maximum(facing, 1e-6)
        other = np.argmin(reach, axis=-1)
        across = np.take_along_axis(apart, other[..., None], axis=1)
        across = np.arctan2(across[..., 1], across[..., 0])
        reach = np.take_along_axis(reach, other[..., None], axis=-1)[..., 0]
        round_reach = radius - depth
        across, reach = np.where(round_reach < reach, angle, across), np.minimum(reach, round_reach)
        points = inner + ray * reach[..., None]
        chosen = draw < reach / (0.4 * self.spacing)
        return points[chosen], across[chosen]


def downsample(values: np.ndarray, factor: int) -> np.ndarray:
    """Means of blocks of `factor` x `factor`."""
    side = len(values) // factor
    return values.reshape(side, factor, side, factor).mean(axis=(1, 3))


def displacement(waves: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The displacement of the points (x, y) by the waves: [2, ...] of their dtype."""
    moved = np.zeros((2, *np.shape(x)), np.asarray(x).dtype)
    for number_x, number_y, phase, along_x, along_y in waves.astype(moved.dtype):
        height = np.sin(number_x * x + number_y * y + phase)
        moved[0] += along_x * height
        moved[1] += along_y * height
    return moved


def blend(under: np.ndarray | float, over: np.ndarray | float, alpha: np.ndarray) -> np.ndarray:
    """Alpha blending: `over` where alpha is 1, `under` where it is 0."""
    return under + (over - under) * alpha


def ramp(value: np.ndarray, width: float) -> np.ndarray:
    """A soft step: 0 below -width / 2, 1 above width / 2."""
    return np.clip(value * (1 / width) + 0.5, 0, 1)
