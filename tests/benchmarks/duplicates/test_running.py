"""Running a finder in its environment, and scoring its output."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.duplicates import benchmark, failures, finders, running, scored_pairs, scoring
from benchmarks.duplicates.finders import Environment, Finder
from benchmarks.duplicates.image_sets import HUMAN, LUNG, ORIGINALS, ImageSet
from benchmarks.duplicates.scored_pairs import pairs_of, save_groups, save_pairs
from benchmarks.duplicates.scoring import TUNED, Found
from jaxnets.errors import ConfigError


@pytest.fixture
def image_set(tmp_path: Path) -> ImageSet:
    """Six images, of which the first and the last are equal; two images per class."""
    folder = tmp_path / "lung"
    (folder / "images").mkdir(parents=True)
    for number, level in enumerate((10, 20, 30, 40, 50, 10)):
        Image.new("RGB", (8, 8), (level, 0, 0)).save(folder / "images" / f"{number}.png")
    (folder / "truth.json").write_text("[]")
    classes = np.array(["lung_aca", "lung_aca", "lung_n", "lung_n", "lung_scc", "lung_scc"])
    truths = {HUMAN: np.array([0, 0, 1, 1, 2, 3]), ORIGINALS: np.array([0, 0, 1, 2, 3, 3])}
    return ImageSet(LUNG, folder, [""] * 6, classes, truths)


def run(image_set: ImageSet, tmp_path: Path, name: str = "sha256", limit: float | None = None) -> running.Run:
    return running.run_finder(name, image_set, tmp_path / "runs", tmp_path / "environments", limit)


def test_a_finder_runs_once_and_its_cost_is_measured(image_set: ImageSet, tmp_path: Path) -> None:
    first = run(image_set, tmp_path)
    assert first.failed is None
    assert first.seconds > 0
    assert first.processor_seconds > 0
    assert first.peak_memory > 2**20
    output = running.output_path("sha256", image_set, tmp_path / "runs")
    groups = running.load_output(output)
    assert isinstance(groups, np.ndarray)
    assert groups[0, 0] == groups[0, 5]
    assert len(np.unique(groups)) == 5
    written = output.stat().st_mtime_ns
    assert run(image_set, tmp_path) == first
    assert output.stat().st_mtime_ns == written


def test_another_set_of_images_is_run_again(image_set: ImageSet, tmp_path: Path) -> None:
    first = run(image_set, tmp_path)
    (image_set.folder / "truth.json").write_text("[1]")
    assert run(image_set, tmp_path).code != first.code


def test_a_finder_that_fails_or_takes_too_long_is_recorded(
    image_set: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(finders.ENVIRONMENTS, "none", Environment(python=sys.executable))
    monkeypatch.setitem(finders.FINDERS, "failing", Finder("failing", "no_program", "none"))
    with pytest.raises(FileNotFoundError):
        run(image_set, tmp_path, "failing")
    monkeypatch.setitem(finders.FINDERS, "failing", Finder("failing", "fastdup_finder", "none"))
    assert "No module named 'fastdup'" in str(run(image_set, tmp_path, "failing").failed)
    start = time.monotonic()
    stopped = run(image_set, tmp_path, "sha256", limit=1e-9)
    assert stopped.failed == "stopped after 1e-09 minutes"
    assert time.monotonic() - start < 5
    assert run(image_set, tmp_path).failed is None  # a failure is tried again


def test_an_interpreter_that_is_missing_is_recorded(
    image_set: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(finders.ENVIRONMENTS, "late", Environment(("numpy",), "python9.9"))
    monkeypatch.setitem(finders.FINDERS, "late", Finder("late", "equal_files", "late"))
    assert run(image_set, tmp_path, "late").failed == "python9.9 is not on the PATH: late needs it"


def test_every_finder_has_a_program_and_an_environment() -> None:
    programs = Path(scored_pairs.__file__).parent / "programs"
    for name, finder in finders.FINDERS.items():
        assert (programs / f"{finder.program}.py").is_file(), name
        assert finder.environment in finders.ENVIRONMENTS, name
    used = {finder.program for finder in finders.FINDERS.values()}
    assert {path.stem for path in programs.glob("*.py")} == used | {"__init__"}


def test_outputs_are_read_as_they_were_written(tmp_path: Path) -> None:
    pairs = pairs_of([(0, 1, 0.5), (2, 1, 0.25)])
    save_pairs(tmp_path / "pairs.npz", pairs, "1.0")
    save_groups(tmp_path / "groups.npz", np.array([0, 0, 1]), "1.0")
    read = running.load_output(tmp_path / "pairs.npz")
    assert all(np.array_equal(*arrays) for arrays in zip(read, pairs, strict=True))
    np.testing.assert_array_equal(running.load_output(tmp_path / "groups.npz"), [[0, 0, 1]])
    assert json.loads((tmp_path / "pairs.version.json").read_text()) == "1.0"


def test_thresholds_are_chosen_on_one_class(image_set: ImageSet) -> None:
    """The pair of lung_aca has 0.6; wrong and right pairs of other classes do not matter."""
    found = Found(pairs_of([(2, 4, 0.9), (0, 2, 0.8), (2, 3, 0.7), (0, 1, 0.6), (4, 5, 0.1)]), default=0.75)
    chosen = scoring.thresholds(found, image_set)
    assert chosen[TUNED] == {"pairs": pytest.approx(0.6), "groups": pytest.approx(0.6)}
    assert chosen["default"] == {"pairs": 0.75, "groups": 0.75}
    scored = scoring.score(found, image_set, chosen)
    pairs = scored[HUMAN][TUNED]["pairs"]  # among the other four images: (2, 4) is wrong, (2, 3) right
    assert (pairs["reported"], pairs["precision"], pairs["recall"]) == (2, 0.5, 1.0)
    assert scored["disputed"][TUNED] == {"human clusters only": [1, 1], "our originals only": [0, 1]}
    assert scored["disputed"]["default"] == {"human clusters only": [0, 1], "our originals only": [0, 1]}
    assert scoring.across_classes(found, image_set, chosen[TUNED]["pairs"]) == 2


def test_groups_have_no_threshold(image_set: ImageSet) -> None:
    found = Found(np.array([0, 1, 2, 2, 3, 3]))
    chosen = scoring.thresholds(found, image_set)
    assert chosen == {"default": {"pairs": None, "groups": None}}
    scored = scoring.score(found, image_set, chosen)
    assert scored[HUMAN]["default"]["pairs"]["precision"] == 0.5
    assert scored["disputed"]["default"] == {"human clusters only": [1, 1], "our originals only": [1, 1]}
    assert "average_precision" not in scored[HUMAN]


def test_unknown_finders_are_refused(tmp_path: Path) -> None:
    options = benchmark.Options(tmp_path, tmp_path, tmp_path, ("phsh",), None, 1.0, tmp_path, tmp_path)
    with pytest.raises(ConfigError, match="phash"):
        benchmark.run(options)


def test_errors_are_one_pair_per_divided_photograph_and_per_wrong_group() -> None:
    truth = np.array([0, 0, 0, 1, 1, 2])
    groups = np.array([0, 0, 1, 2, 2, 2])
    assert failures.errors(groups, truth) == {"divided": [(0, 2)], "joined wrongly": [(3, 5)]}
    assert failures.errors(truth, truth) == {"divided": [], "joined wrongly": []}


def test_a_picture_of_errors(image_set: ImageSet, tmp_path: Path) -> None:
    path = tmp_path / "errors.jpg"
    counts = failures.draw(path, [("joined", image_set, [(0, 4)]), ("divided", image_set, [])])
    assert counts == {"joined": 1, "divided": 0}
    pixels = np.asarray(Image.open(path))
    middle = failures.CAPTION + failures.SIDE // 2
    assert abs(int(pixels[middle, failures.SIDE // 2, 0]) - 10) < 4
    assert abs(int(pixels[middle, failures.SIDE * 3 // 2 + failures.LINE, 0]) - 50) < 4
    assert failures.draw(path, [("divided", image_set, [])]) == {"divided": 0}
