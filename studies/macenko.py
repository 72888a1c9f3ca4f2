"""Measures Macenko's stain normalisation under the stain shifts of LC25000.

    python -m studies.macenko --out=results/lc25000/macenko.json

Two kinds of networks are trained on the grouped split: a small ResNet from scratch, 64 px, and a linear
classifier on the frozen features of EfficientNet-Lite0, 128 px. Each is trained and tested on the images as
they are and on normalised images; the ResNet also with colour augmentation. Test images are shifted, then
normalised.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from jaxnets import models
from jaxnets.data.dataset import Dataset
from jaxnets.data.images import resize_image
from jaxnets.data.sampler import EpochSampler
from jaxnets.experiment.data import open_dataset, with_cache
from jaxnets.experiment.resolve import load_config
from jaxnets.interop import imagenet
from jaxnets.io import atomic_write
from jaxnets.ops import cpu_kernels, global_average_pool
from jaxnets.ops.cpu_kernels import build
from jaxnets.runtime import console, xla
from jaxnets.training.loss import cross_entropy
from jaxnets.training.preprocess import make_preprocess, normalize, scale
from jaxnets.training.step import TrainState, make_train_step
from studies.stain_jitter import NEUTRAL, SHIFTS, shift_colours

NORMALISED = ", normalised"
CONFIG = Path(__file__).parents[1] / "configs" / "lung_resnet.py"
STRENGTHS = {"hue": (-0.1, -0.05, 0.05, 0.1), "saturation": (0.0, 0.5, 1.5)}
STRENGTHS |= {"haematoxylin": (0.5, 0.8, 1.25, 1.5), "eosin": (0.5, 1.5)}
JITTER = {"stain": 0.5, "hue": 0.1, "saturation": 0.5}
EPOCHS, BATCH, RATE = 3, 32, 2e-3
FROZEN_PX, FROZEN_TRAIN, FROZEN_TEST, SCRATCH_TEST, CHUNK = 128, 3_000, 750, 1_000, 250

TRANSMITTED, MIN_DENSITY, MIN_PIXELS = 240, 0.15, 50
"""The intensity of white, the lowest optical density of stained pixels, and their fewest number."""
TARGET = np.array([[0.5626, 0.7201, 0.4062], [0.2159, 0.8012, 0.5581]])
TARGET_DENSITIES = np.array([1.9705, 1.0308])
"""Haematoxylin and eosin of the normalised images: the values of Macenko's published program."""


def macenko(image: np.ndarray) -> np.ndarray:
    """Normalises the stains of uint8[H, W, 3] (Macenko et al. 2009), unless there is too little tissue."""
    density = -np.log((image.reshape(-1, 3).astype(np.float64) + 1) / TRANSMITTED)
    stained = density[(density >= MIN_DENSITY).all(axis=1)]
    if len(stained) < MIN_PIXELS:
        return image
    _, vectors = np.linalg.eigh(np.cov(stained.T))
    plane = vectors[:, 1:]
    plane = plane * np.where(plane.sum(axis=0) < 0, -1, 1)
    angles = np.arctan2(*(stained @ plane).T[::-1])
    ends = np.percentile(angles, [1, 99])
    stains = np.stack([np.cos(ends), np.sin(ends)], axis=1) @ plane.T
    stains = stains[np.argsort(-stains[:, 0])]  # haematoxylin absorbs more red
    amounts = np.linalg.pinv(stains.T) @ density.T
    highest = np.percentile(amounts, 99, axis=1)
    if not (highest > 0).all():
        return image
    scaled = amounts * (TARGET_DENSITIES / highest)[:, None]
    return np.clip(TRANSMITTED * np.exp(-(TARGET.T @ scaled)), 0, 255).T.reshape(image.shape).astype(np.uint8)


def shifted(images: np.ndarray, kind: str, strength: float) -> np.ndarray:
    """The images uint8[N, H, W, 3] with one of the shifts of `SHIFTS`."""
    number = jnp.int32(list(SHIFTS).index(kind))
    shift = xla.jit(jax.vmap(lambda image, s: shift_colours(scale(image, jnp.float32), number, s)))
    parts = [images[start : start + CHUNK] for start in range(0, len(images), CHUNK)]
    moved = [np.asarray(shift(part, np.full(len(part), strength, np.float32))) for part in parts]
    return np.rint(255 * np.concatenate(moved)).astype(np.uint8)


def _accuracies(
    predict: Callable[[np.ndarray], np.ndarray], tests: dict[str, np.ndarray], labels: np.ndarray
) -> dict[str, float]:
    found = {name: float((predict(images) == labels).mean()) for name, images in tests.items()}
    console.log("accuracy", ", ".join(f"{name} {100 * value:.1f}" for name, value in found.items()))
    return found


def _test_sets(images: np.ndarray, *, normalise: bool) -> dict[str, np.ndarray]:
    kinds = [("clean", "hue", NEUTRAL["hue"])]
    kinds += [(f"{kind} {s:g}", kind, s) for kind, strengths in STRENGTHS.items() for s in strengths]
    tests = {name: shifted(images, kind, strength) for name, kind, strength in kinds}
    return {name: _normalised(each) for name, each in tests.items()} if normalise else tests


def _normalised(images: np.ndarray) -> np.ndarray:
    return np.stack([macenko(image) for image in images])


def _resnet(
    data: Dataset, images: np.ndarray, *, jitter: bool, kernels: Any
) -> Callable[[np.ndarray], np.ndarray]:
    """Trains the small ResNet on `images` uint8[N, 64, 64, 3]; returns its predictions."""
    config = load_config(str(CONFIG), {"data.name": "lc25000_lung", "model.stage_sizes": (1, 1, 1, 1)})
    config.model.width, config.model.num_classes = 16, 3
    for name, amount in JITTER.items() if jitter else ():
        config.augment[name] = amount
    model = models.create(config.model).clone(implementation=kernels or "auto")
    labels = np.asarray(data.source.labels)
    sampler = EpochSampler(data.split.train, BATCH, seed=0, drop_last=True)
    steps = EPOCHS * sampler.steps_per_epoch
    optimizer = optax.adam(optax.cosine_decay_schedule(RATE, steps))
    variables = models.initialize(model, jax.random.key(0), shape=(1, *images.shape[1:]))
    state = TrainState.create(variables, optimizer, seed=0)
    preprocess = make_preprocess(config, train=True)
    with jax.numpy_dtype_promotion("standard"):
        step = xla.jit(make_train_step(model, cross_entropy, optimizer, preprocess=preprocess))
        for number in range(steps):
            batch = sampler.batch(number)
            rows = batch["index"]
            state, _ = step(state, {**batch, "image": images[rows], "label": labels[rows]})
    center = (tuple(config.data.mean), tuple(config.data.std))

    def logits(variables: Any, images: jax.Array) -> Any:
        return model.apply(variables, normalize(scale(images, jnp.float32), *center), train=False)

    apply = xla.jit(logits)
    return lambda images: _in_chunks(lambda part: apply(state.variables(), part), images).argmax(axis=1)


def _in_chunks(apply: Callable[[np.ndarray], Any], images: np.ndarray) -> np.ndarray:
    return np.concatenate([np.asarray(apply(part)) for part in np.split(images, len(images) // CHUNK)])


def _frozen(data: Dataset, kernels: Any, *, normalise: bool) -> dict[str, float]:
    """Accuracies of a linear classifier on frozen features, for a part of the images."""
    weights = imagenet.read("imagenet:efficientnet_lite0")
    assert weights.preprocessing is not None
    model = models.create(weights.model).clone(implementation=kernels or "auto")
    center = (weights.preprocessing.mean, weights.preprocessing.std)

    def features(variables: Any, images: jax.Array) -> jax.Array:
        inputs = normalize(scale(images, jnp.float32), *center)
        found: Any = model.apply(variables, inputs, train=False, method="features")
        return global_average_pool(found)

    compute = xla.jit(features)
    generator = np.random.default_rng(0)
    train = generator.choice(data.split.train, FROZEN_TRAIN, replace=False)
    test = generator.choice(data.split.test, FROZEN_TEST, replace=False)
    images = {name: _resized(data, rows, FROZEN_PX) for name, rows in (("train", train), ("test", test))}

    def extract(images: np.ndarray) -> np.ndarray:
        return _in_chunks(lambda part: compute(weights.variables, part), images)

    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    fitted = _normalised(images["train"]) if normalise else images["train"]
    classifier.fit(extract(fitted), data.source.labels[train])
    tests = _test_sets(images["test"], normalise=normalise)

    def predict(images: np.ndarray) -> np.ndarray:
        return np.asarray(classifier.predict(extract(images)))

    return _accuracies(predict, tests, data.source.labels[test])


def _resized(data: Dataset, rows: Sequence[int] | np.ndarray, size: int) -> np.ndarray:
    return np.stack([resize_image(data.source[int(row)]["image"], size) for row in rows])


def main() -> None:
    """Measures and writes the accuracies as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    console.show()
    library = build.find()
    kernels = cpu_kernels.load(library)[-1] if library else None
    config = load_config(str(CONFIG), {"data.name": "lc25000_lung"})
    data = with_cache(config, open_dataset(config))
    measured: dict[str, Any] = json.loads(out.read_text()) if out.is_file() else {}
    for normalise in (False, True):
        name = f"frozen{NORMALISED if normalise else ''}"
        if name not in measured:
            measured[name] = _frozen(data, kernels, normalise=normalise)
            atomic_write(out, json.dumps(measured, indent=1) + "\n")
    images = _resized(data, range(len(data.source)), 64)
    test = np.random.default_rng(0).choice(data.split.test, SCRATCH_TEST, replace=False)
    labels = np.asarray(data.source.labels)[test]
    for normalise in (False, True):
        tests = _test_sets(images[test], normalise=normalise)
        fitted = _normalised(images) if normalise else images
        for jitter in (False, True):
            predict = _resnet(data, fitted, jitter=jitter, kernels=kernels)
            name = f"scratch{', augmented' if jitter else ''}{NORMALISED if normalise else ''}"
            measured[name] = _accuracies(predict, tests, labels)
            atomic_write(out, json.dumps(measured, indent=1) + "\n")


if __name__ == "__main__":
    main()
