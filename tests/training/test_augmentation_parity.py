"""Random resized crops, CutMix and balanced sampling beside torchvision and PyTorch."""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

pytest.importorskip("torch")

import torch

from benchmarks.oracles import load
from jaxnets.data.sampler import EpochSampler
from jaxnets.training import mixing, preprocess

pytestmark = [pytest.mark.oracle]
load("torchvision_import").import_torchvision()
v2 = importlib.import_module("torchvision.transforms.v2")
DRAWS = 2_000
SAME = 1e-3  # the p-value below which two samples have different distributions


@pytest.mark.parametrize("box", [(0, 0, 20, 20), (3, 5, 9, 14), (19, 0, 1, 20), (4, 4, 13, 7)])
def test_resized_crop(box: tuple[int, int, int, int]) -> None:
    image = np.random.default_rng(0).random((20, 20, 3), np.float32)
    found = preprocess.resized_crop(jnp.asarray(image), *(jnp.asarray(value) for value in box))
    expected = v2.functional.resized_crop(torch.from_numpy(image).permute(2, 0, 1), *box, size=[20, 20])
    np.testing.assert_allclose(found, expected.permute(1, 2, 0).numpy(), atol=2e-6)


@pytest.mark.parametrize("min_area", [0.08, 0.9])
def test_boxes_of_random_resized_crops(min_area: float) -> None:
    draw = functools.partial(preprocess.random_crop_box, shape=(60, 60), min_area=min_area)
    ours = np.stack(jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), DRAWS)), axis=1)
    torch.manual_seed(0)
    image = torch.zeros(3, 60, 60)
    crop = v2.RandomResizedCrop(60, scale=(min_area, 1.0))
    drawn = [crop.make_params([image]) for _ in range(DRAWS)]
    theirs = np.array([[box[name] for name in ("top", "left", "height", "width")] for box in drawn])
    assert (ours[:, :2] >= 0).all()
    assert (ours[:, :2] + ours[:, 2:] <= 60).all()
    for column in range(4):
        assert stats.ks_2samp(ours[:, column], theirs[:, column]).pvalue > SAME
    areas = (values[:, 2] * values[:, 3] for values in (ours, theirs))
    assert stats.ks_2samp(*areas).pvalue > SAME


@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_boxes_of_cutmix(alpha: float) -> None:
    draw = functools.partial(mixing.cutmix_box, shape=(40, 24), alpha=alpha)
    boxes = np.asarray(jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), DRAWS)))
    torch.manual_seed(0)
    transform = v2.CutMix(alpha=alpha, num_classes=2)
    image = torch.zeros(2, 3, 40, 24)
    theirs = []
    for _ in range(DRAWS):
        params = transform.make_params([image])
        left, top, right, bottom = params["box"]
        theirs.append([(bottom - top) * (right - left), bottom - top, top])
        assert params["lam_adjusted"] == pytest.approx(1 - theirs[-1][0] / 960)
    heights = boxes.any(axis=2)
    ours = np.stack([boxes.sum((1, 2)), heights.sum(1), heights.argmax(1)], axis=1)
    expected = np.array(theirs)
    expected[expected[:, 0] == 0, 1:] = 0  # empty boxes have no place
    ours[ours[:, 0] == 0, 1:] = 0
    for column in range(3):
        assert stats.ks_2samp(ours[:, column], expected[:, column]).pvalue > SAME


def test_balanced_sampling_draws_as_the_weighted_random_sampler() -> None:
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    sampler = EpochSampler(100 + np.arange(100), 100, seed=0, drop_last=False, labels=labels)
    ours = np.concatenate([sampler.batch(step)["index"] - 100 for step in range(50)])
    weights = torch.from_numpy(1 / np.bincount(labels)[labels])
    generator = torch.Generator().manual_seed(0)
    theirs = torch.utils.data.WeightedRandomSampler(weights, 5_000, generator=generator)
    counts = [np.bincount(drawn, minlength=100) for drawn in (ours, np.array(list(theirs)))]
    assert stats.chi2_contingency(counts).pvalue > SAME
    np.testing.assert_allclose(np.bincount(labels[ours]) / 5_000, 1 / 3, atol=0.03)
