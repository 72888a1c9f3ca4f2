"""The synthetic tissue: classes differ in shape but not in colour or position."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from jaxnets.data.sources.base import Source
from jaxnets.data.sources.synthetic_tissue import CLASSES, SyntheticTissue

TRAIN, TEST, SIZE = 600, 300, 64


def _images(source: SyntheticTissue) -> np.ndarray:
    return np.stack([source[index]["image"] for index in range(len(source))])


def _contact_sheet(source: SyntheticTissue, columns: int) -> np.ndarray:
    """Returns a grid of the first `columns` images of every class, one row per class."""
    size = len(source[0]["image"])
    gap = max(2, size // 32)
    step = size + gap
    sheet = np.full((len(CLASSES) * step + gap, columns * step + gap, 3), 255, np.uint8)
    for index in range(len(CLASSES) * columns):
        column, row = divmod(index, len(CLASSES))
        top, left = gap + row * step, gap + column * step
        sheet[top : top + size, left : left + size] = source[index]["image"]
    return sheet


class TestContract:
    def test_implements_source(self):
        source = SyntheticTissue(7, 16, seed=1)
        assert isinstance(source, Source)
        assert (source.name, source.kind) == ("synthetic_tissue", "image")
        assert tuple(source.classes) == ("adenocarcinoma", "benign", "squamous cell carcinoma")
        assert source.official_split is None
        assert len(source) == 7
        assert len(set(source.files)) == 7
        assert source.files[6] == "synthetic_tissue/000006.png"
        assert source.labels.dtype == np.int32
        np.testing.assert_array_equal(source.labels, [0, 1, 2, 0, 1, 2, 0])

    @pytest.mark.parametrize("size", [8, 33, 64, 130])
    def test_examples(self, size):
        source = SyntheticTissue(3, size)
        for index in range(3):
            example = source[index]
            assert set(example) == {"image", "label", "index"}
            assert (example["image"].shape, example["image"].dtype) == ((size, size, 3), np.uint8)
            assert (example["label"].shape, example["label"].dtype) == ((), np.int32)
            assert (example["index"].shape, example["index"].dtype) == ((), np.int64)
            assert (example["label"], example["index"]) == (source.labels[index], index)
            assert example["image"].std() > 10

    def test_fingerprint_changes_with_every_argument(self):
        arguments = [(9, 16, 0), (10, 16, 0), (9, 17, 0), (9, 16, 1)]
        prints = {SyntheticTissue(*each).fingerprint for each in arguments}
        assert len(prints) == 4
        assert SyntheticTissue(9, 16).fingerprint in prints
        for each in prints:
            assert len(bytes.fromhex(each)) == 32

    @pytest.mark.parametrize("index", [-1, 3])
    def test_index_out_of_range_raises(self, index):
        with pytest.raises(IndexError):
            SyntheticTissue(3, 16)[index]

    def test_readme_image_is_up_to_date(self, repository):
        shown = np.asarray(Image.open(repository / "docs" / "synthetic_tissue.jpg"), np.float64)
        sheet = _contact_sheet(SyntheticTissue(18, 112), columns=6)
        assert shown.shape == sheet.shape
        assert np.abs(shown - sheet).mean() < 6  # JPEG compression
        other = _contact_sheet(SyntheticTissue(18, 112, seed=1), columns=6)
        assert np.abs(shown - other).mean() > 20


class TestDeterminism:
    def test_images_do_not_depend_on_order_threads_or_count(self):
        expected = _images(SyntheticTissue(12, 48, seed=4))
        again = SyntheticTissue(40, 48, seed=4)
        for index in reversed(range(12)):
            np.testing.assert_array_equal(again[index]["image"], expected[index])
        with ThreadPoolExecutor(4) as pool:
            threaded = list(pool.map(lambda index: again[index]["image"], range(12)))
        np.testing.assert_array_equal(threaded, expected)

    def test_images_differ_by_index_and_seed(self):
        pictures = [*_images(SyntheticTissue(9, 16)), *_images(SyntheticTissue(9, 16, seed=1))]
        assert len({picture.tobytes() for picture in pictures}) == 18

    @pytest.mark.parametrize("label", [0, 1, 2])
    def test_other_sizes_show_the_same_content(self, label):
        small, large, other = (SyntheticTissue(9, size, seed=2) for size in (64, 128, 192))
        for index in range(label, 9, 3):
            shown = small[index]["image"].astype(np.float32)
            for source in (large, other):
                image = source[index]["image"].astype(np.float32)
                shrunk = image.reshape(64, len(image) // 64, 64, -1, 3).mean((1, 3))
                assert np.corrcoef(shown.ravel(), shrunk.ravel())[0, 1] > 0.95


def _joint_histograms(images: np.ndarray) -> np.ndarray:
    bins = (images >> 5).astype(int) @ [64, 8, 1]
    return np.stack([np.bincount(each.ravel(), minlength=512) for each in bins])


def _channel_histograms(images: np.ndarray) -> np.ndarray:
    bins = (images >> 4) + np.arange(0, 48, 16)
    return np.stack([np.bincount(each.ravel(), minlength=48) for each in bins])


def _block_means(images: np.ndarray) -> np.ndarray:
    whole = images[:, 2:62, 2:62].reshape(-1, 12, 5, 12, 5, 3)
    return whole.mean((2, 4)).reshape(len(images), -1)


def _grid_means(images: np.ndarray) -> np.ndarray:
    starts = np.linspace(0, SIZE, 5, endpoint=False).astype(int)
    sums = np.add.reduceat(np.add.reduceat(images.astype(np.float64), starts, 1), starts, 2)
    return sums.reshape(len(images), -1)


def _gradients_and_deviations(images: np.ndarray) -> np.ndarray:
    """Returns mean gradients along both axes and standard deviations per channel: nine numbers."""
    values = images.astype(np.float64)
    steps = [np.abs(np.diff(values, axis=axis)).mean((1, 2)) for axis in (1, 2)]
    return np.concatenate([*steps, values.std((1, 2))], axis=1)


def _radial_spectrum(images: np.ndarray) -> np.ndarray:
    """Returns log power by spatial frequency; invariant to position, rotation and contrast."""
    grey = images.mean(-1)
    grey = (grey - grey.mean((1, 2), keepdims=True)) / grey.std((1, 2), keepdims=True)
    power = np.abs(np.fft.fft2(grey * np.hanning(SIZE)[:, None] * np.hanning(SIZE))) ** 2
    frequency = np.fft.fftfreq(SIZE, 1 / SIZE)
    ring = np.hypot(frequency[:, None], frequency).astype(int).ravel()
    counts = np.bincount(ring)
    rings = [np.bincount(ring, each.ravel()) / counts for each in power]
    return np.log(np.stack(rings)[:, 1:32])


@pytest.fixture(scope="module", params=[0, pytest.param(1, marks=pytest.mark.slow)], ids=["seed0", "seed1"])
def data(request) -> tuple[np.ndarray, np.ndarray]:
    """Returns the images and labels of one seed."""
    source = SyntheticTissue(TRAIN + TEST, SIZE, seed=request.param)
    return _images(source), source.labels


def _accuracy(features: np.ndarray, labels: np.ndarray) -> float:
    """Returns the test accuracy of a logistic regression; chance level is 1 / 3."""
    # Imported here because importing takes seconds, in each worker.
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    model.fit(features[:TRAIN], labels[:TRAIN])
    return model.score(features[TRAIN:], labels[TRAIN:])


@pytest.mark.parametrize(
    ("features", "max_accuracy"),
    [(_joint_histograms, 0.5), (_channel_histograms, 0.5), (_block_means, 0.6), (_grid_means, 0.6)],
)
def test_colour_and_position_do_not_separate_the_classes(data, features, max_accuracy):
    images, labels = data
    assert _accuracy(features(images), labels) < max_accuracy


def test_shape_separates_the_classes(data):
    images, labels = data
    assert _accuracy(_radial_spectrum(images), labels) > 0.8


def test_nine_statistics_separate_the_classes(data, repository):
    """If this fails, update the claim in README.md and in the first line of the demo."""
    images, labels = data
    assert _accuracy(_gradients_and_deviations(images), labels) > 0.9
    readme = " ".join((repository / "README.md").read_text().split())
    assert "a logistic regression on nine numbers reaches" in readme


def test_histograms_detect_unequal_colours(data):
    """A slight colour cast on one class is detected."""
    images, labels = data
    cast = images - (images > 30) * np.where(labels == 1, 28, 0)[:, None, None, None]
    assert _accuracy(_channel_histograms(cast.astype(np.uint8)), labels) > 0.5


def test_classes_are_equally_frequent():
    source = SyntheticTissue(300, 16)
    np.testing.assert_array_equal(np.bincount(source.labels), [100] * len(CLASSES))
