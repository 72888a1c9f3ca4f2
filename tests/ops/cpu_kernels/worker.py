"""A process that uses the kernels: python worker.py FOLDER OUT [COORDINATOR COUNT NUMBER].

It computes the gradient of a small network over all devices of all processes and writes it to OUT.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.ops import convolution, max_pool
from jaxnets.ops.cpu_kernels import build, enable

IMAGES = 16


def loss(weights: tuple[jax.Array, jax.Array], x: jax.Array) -> jax.Array:
    """Returns a function of two convolutions with max pooling between them."""
    y = max_pool(convolution(x, weights[0]), (2, 2), strides=(2, 2))
    return jnp.sum(jnp.sin(convolution(y, weights[1], strides=(2, 2), padding=((1, 1), (1, 1)))))


def inputs() -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Returns weights and images."""
    generator = np.random.default_rng(0)
    shapes = (3, 3, 3, 20), (3, 3, 20, 7), (IMAGES, 12, 12, 3)
    first, second, x = (generator.normal(0, 0.3, shape).astype(np.float32) for shape in shapes)
    return (first, second), x


def main(folder: str, out: str, *distributed: str) -> None:
    """Enables the kernels before tracing, computes the gradient 20 times and writes it."""
    enable(build.library_path(Path(folder)))
    if distributed:
        coordinator, count, number = distributed
        jax.distributed.initialize(coordinator, int(count), int(number))
    weights, x = inputs()
    size = IMAGES // jax.process_count()
    x = x[jax.process_index() * size : (jax.process_index() + 1) * size]

    def step(weights: tuple[jax.Array, jax.Array], x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.lax.psum(jax.grad(loss)(weights, x), "devices")

    mapped = jax.pmap(step, axis_name="devices", in_axes=(None, 0), out_axes=None)
    split = x.reshape(jax.local_device_count(), -1, *x.shape[1:])
    assert "jaxnets_" in mapped.lower(weights, split).as_text()
    results = [mapped(weights, split) for _ in range(20)]
    same = [jax.tree.map(np.array_equal, results[0], result) for result in results]
    assert all(jax.tree.leaves(same)), "the results differ between calls"
    if jax.process_index() == 0:
        np.savez(out, *results[0])


if __name__ == "__main__":
    main(*sys.argv[1:])
