"""Running a finder in its environment, and scoring its output."""

import dataclasses
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.duplicates import benchmark, failures, finders, running, scored_pairs, scoring
from benchmarks.duplicates.finders import Environment, Finder
from benchmarks.duplicates.image_sets import CONTROLS, GROUPS, HUMAN, LUNG, ORIGINALS, SETS, TUNING, ImageSet
from benchmarks.duplicates.running import Run, Runner
from benchmarks.duplicates.scored_pairs import ScoredPairs, pairs_of, save_groups, save_pairs
from benchmarks.duplicates.scoring import Choice, Found, Outputs
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
    truths = {
        HUMAN: np.array([0, 0, 1, 1, 2, 3]),
        ORIGINALS: np.array([0, 0, 1, 2, 3, 3]),
        GROUPS: np.array([0, 0, 1, 1, 3, 3]),
    }
    return ImageSet(LUNG, folder, [""] * 6, classes, truths)


def run(
    image_set: ImageSet, tmp_path: Path, name: str = "sha256", setting: str = "", limit: float = 1.0
) -> Run:
    return _runner(tmp_path, limit).run(name, setting, image_set)


def _runner(tmp_path: Path, limit: float = 1.0) -> Runner:
    return Runner(tmp_path / "runs", tmp_path / "environments", limit)


def test_a_finder_runs_once_and_its_cost_is_measured(image_set: ImageSet, tmp_path: Path) -> None:
    first = run(image_set, tmp_path)
    assert first.failed is None
    assert first.processor_seconds > 0
    assert first.peak_memory > 2**20
    output = _runner(tmp_path).output("sha256", "", image_set)
    groups = running.load_output(output)
    assert isinstance(groups, np.ndarray)
    assert groups[0, 0] == groups[0, 5]
    assert len(np.unique(groups)) == 5
    written = output.stat().st_mtime_ns
    assert run(image_set, tmp_path) == first
    assert output.stat().st_mtime_ns == written


def test_an_output_is_used_again_only_for_the_same_images_settings_and_requirements(
    image_set: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    finder = finders.FINDERS["czkawka"]
    key = running.run_key(finder, "10", image_set)
    assert running.run_key(finder, "10", image_set) == key
    assert running.run_key(finder, "11", image_set) != key
    with monkeypatch.context() as changed:
        changed.setitem(finders.ENVIRONMENTS, "czkawka", Environment(("czkawka==0.1.3", "numpy==2.4.6")))
        assert running.run_key(finder, "10", image_set) != key
    with monkeypatch.context() as changed:
        changed.setattr(running, "code_version", lambda: "another")
        assert running.run_key(finder, "10", image_set) == key
        ours = running.run_key(finders.FINDERS["jaxnets"], "", image_set)
    assert running.run_key(finders.FINDERS["jaxnets"], "", image_set) != ours
    (image_set.folder / "truth.json").write_text("[1]")
    assert running.run_key(finder, "10", image_set) != key


def test_a_finder_that_fails_is_recorded_and_repeated(
    image_set: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(finders.ENVIRONMENTS, "none", Environment(python=sys.executable))
    monkeypatch.setitem(finders.FINDERS, "failing", Finder("failing", "no_program", "none"))
    with pytest.raises(FileNotFoundError):
        run(image_set, tmp_path, "failing")
    monkeypatch.setitem(finders.FINDERS, "failing", Finder("failing", "fastdup_finder", "none"))
    assert "No module named 'fastdup'" in str(run(image_set, tmp_path, "failing").failed)
    monkeypatch.setitem(finders.FINDERS, "failing", Finder("failing", "equal_files", "none"))
    assert run(image_set, tmp_path, "failing").failed is None


def test_a_finder_that_takes_too_long_is_stopped_once_per_limit(
    image_set: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = time.monotonic()
    stopped = run(image_set, tmp_path, limit=1e-9)
    assert stopped.failed == "stopped after 1e-09 minutes of processor time"
    assert time.monotonic() - start < 5
    with monkeypatch.context() as context:
        context.setattr(Runner, "_measure", lambda *_: pytest.fail("it ran again"))
        assert run(image_set, tmp_path, limit=1e-9) == stopped
    assert run(image_set, tmp_path).failed is None


def test_a_finder_that_was_stopped_is_not_run_on_sets_of_the_same_size(
    image_set: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def stop(runner: Runner, name: str, setting: str, images: ImageSet) -> Run:
        asked.append((setting, images.name))
        if images.name == LUNG:
            return Run("", failed="stopped", stopped=1.0)
        groups = np.arange(len(images))
        save_groups(runner.output(name, setting, images), groups, "1.0")
        return Run("")

    monkeypatch.setattr(Runner, "run", stop)
    small = [dataclasses.replace(image_set, name=name, sources=[""] * 5) for name in (TUNING, CONTROLS[0])]
    names = (LUNG, *(name for name in SETS if name not in (LUNG, CONTROLS[0])))
    sets = {
        each.name: each for each in (*small, *(dataclasses.replace(image_set, name=name) for name in names))
    }
    for each in sets.values():
        _runner(tmp_path).output("sha256", "", each).parent.mkdir(parents=True, exist_ok=True)
    outputs, _ = benchmark._run_all(("sha256",), sets, _runner(tmp_path), 1)
    assert asked == [("", TUNING), ("", LUNG), ("", CONTROLS[0])]
    assert outputs.runs["sha256"][""][SETS[1]].failed == "not run: it was stopped on 6 images"


def test_an_interpreter_that_is_missing_is_recorded(
    image_set: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(finders.ENVIRONMENTS, "late", Environment(("numpy",), "python9.9"))
    monkeypatch.setitem(finders.FINDERS, "late", Finder("late", "equal_files", "late"))
    assert run(image_set, tmp_path, "late").failed == "late needs python9.9, which was not found: install it"


def test_an_interpreter_that_does_not_run_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As pyenv's python3.12 on the PATH, if no version of it is active."""
    for folder, line in (("shims", "exit 127"), ("versions/9.9.1/bin", "exit 0")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "python9.9").write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / folder / "python9.9").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "shims"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    assert finders._find_python("python9.9") == str(tmp_path / "versions/9.9.1/bin/python9.9")
    (tmp_path / "versions/9.9.1/bin/python9.9").unlink()
    assert finders._find_python("python9.9") is None


def test_every_requirement_is_pinned() -> None:
    for environment in finders.ENVIRONMENTS.values():
        assert all("==" in requirement for requirement in environment.requirements)


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


def _outputs(
    image_set: ImageSet, found: Mapping[str, ScoredPairs | np.ndarray | str], folder: Path
) -> Outputs:
    """Outputs of the finder phash by setting; a text is the reason why it failed."""
    runs, paths = {}, {}
    for setting, output in found.items():
        failed = output if isinstance(output, str) else None
        runs[setting] = {image_set.name: Run("", failed=failed)}
        paths["phash", setting, image_set.name] = path = folder / f"{setting}.npz"
        if isinstance(output, ScoredPairs):
            save_pairs(path, output, "1.0")
        elif failed is None:
            save_groups(path, output, "1.0")
    return Outputs({"phash": runs}, paths)


def test_thresholds_are_chosen_on_one_class(image_set: ImageSet, tmp_path: Path) -> None:
    """The pair of lung_aca has 0.6; among the other four images (2, 4) is wrong and (2, 3) right."""
    pairs = pairs_of([(2, 4, 0.9), (0, 2, 0.8), (2, 3, 0.7), (0, 1, 0.6), (4, 5, 0.1)])
    tuning = dataclasses.replace(image_set, truths={HUMAN: np.array([0, 0])})
    finder = Finder("pHash", "hashes", "hashes", "phash", default=0.75, default_groups=0.85)
    chosen = scoring.choose(finder, {"phash": Found(pairs).restricted(np.arange(6) < 2)}, tuning)
    tuned = Choice("phash", pytest.approx(0.6))
    assert chosen == {
        "default": {"pairs": Choice("phash", 0.75), "groups": Choice("phash", 0.85)},
        "tuned": {"pairs": tuned, "groups": tuned},
    }
    scored = scoring.score("phash", _outputs(image_set, {"phash": pairs}, tmp_path), image_set, chosen)
    measured = scored[HUMAN]["tuned"]["pairs"]
    assert (measured["reported"], measured["precision"], measured["recall"]) == (2, 0.5, 1.0)
    assert list(scored["disputed"]["tuned"].values()) == [[1, 1], [0, 1], [0, 1]]
    assert list(scored["disputed"]["default"].values()) == [[0, 1], [0, 1], [0, 1]]
    assert scored["across_classes"] == {"default": 2, "tuned": 2}


def test_settings_are_chosen_separately_for_pairs_and_groups(image_set: ImageSet) -> None:
    """Of six copies of one photograph and three of another: four of the six, or both joined."""
    truth = np.repeat([0, 1], [6, 3])
    tuning = dataclasses.replace(image_set, truths={HUMAN: truth})
    finder = Finder("a finder", "czkawka_finder", "czkawka", "strict", ("four", "wide"))
    found = {
        "strict": Found(np.arange(9)),
        "four": Found(np.array([0, 0, 0, 0, 1, 2, 3, 4, 5])),
        "wide": Found(np.zeros(9, int)),
    }
    chosen = scoring.choose(finder, found, tuning)
    assert chosen["default"] == {"pairs": Choice("strict"), "groups": Choice("strict")}
    assert chosen["tuned"] == {"pairs": Choice("wide"), "groups": Choice("four")}
    only = scoring.choose(dataclasses.replace(finder, settings=()), {"strict": found["strict"]}, tuning)
    assert set(only) == {"default"}


def test_groups_have_no_threshold(image_set: ImageSet, tmp_path: Path) -> None:
    outputs = _outputs(image_set, {"": np.array([0, 1, 2, 2, 3, 3])}, tmp_path)
    chosen = scoring.choose(Finder("groups", "x", "x"), {"": Found(np.array([0, 1]))}, image_set)
    assert chosen == {"default": {"pairs": Choice(""), "groups": Choice("")}}
    scored = scoring.score("phash", outputs, image_set, chosen)
    assert scored[HUMAN]["default"]["pairs"]["precision"] == 0.5
    assert scored["disputed"]["default"] == {
        "human clusters, not our originals": [1, 1],
        "our originals, not the human clusters": [1, 1],
        "our groups, not the human clusters": [1, 1],
    }
    assert "average_precision" not in scored[HUMAN]["default"]


def test_a_failure_is_scored_as_its_reason(image_set: ImageSet, tmp_path: Path) -> None:
    outputs = _outputs(image_set, {"a": np.array([0, 0, 1, 1, 2, 2]), "b": "no memory"}, tmp_path)
    same = lambda setting: {"pairs": Choice(setting), "groups": Choice(setting)}  # noqa: E731
    scored = scoring.score("phash", outputs, image_set, {"default": same("a"), "tuned": same("b")})
    assert scored[HUMAN]["default"]["pairs"]["recall"] == 1.0
    for measured in scored.values():
        assert measured["tuned"] == {"failed": "no memory"}
    splits = scoring.splits(outputs, {"phash": {"tuned": same("b")}}, [image_set])
    assert splits[LUNG]["phash"] == {"failed": "no memory"}


def test_a_finder_that_fails_on_the_tuning_images_is_a_row_of_failures(
    image_set: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fail(runner: Runner, name: str, setting: str, images: ImageSet) -> Run:
        asked.append((name, setting, images.name))
        return Run("", failed="no weights")

    monkeypatch.setattr(Runner, "run", fail)
    sets = {name: dataclasses.replace(image_set, name=name) for name in (TUNING, *SETS)}
    outputs, chosen = benchmark._run_all(("fastdup", "efficientnet"), sets, _runner(tmp_path), 2)
    assert sorted(asked) == [("efficientnet", "", TUNING), ("fastdup", "2 0.9", TUNING)]
    for row in ("fastdup", "efficientnet"):
        assert set(chosen[row]) == {"default"}
        scored = scoring.score(row, outputs, sets[LUNG], chosen[row])
        assert scored[HUMAN] == {"default": {"failed": "no weights"}}


def test_unknown_finders_and_missing_pages_are_refused(tmp_path: Path) -> None:
    options = benchmark.Options(tmp_path, tmp_path, tmp_path, ("phsh",), None, 1.0, 2, tmp_path, tmp_path)
    with pytest.raises(ConfigError, match="phash"):
        benchmark.run(options)
    with pytest.raises(ConfigError, match=r"--docs=.* has no duplicates_benchmark.md"):
        benchmark.run(dataclasses.replace(options, finders=("phash",)))


def test_errors_are_one_pair_per_divided_photograph_and_per_wrong_group() -> None:
    truth = np.array([0, 0, 0, 1, 1, 2])
    groups = np.array([0, 0, 1, 2, 2, 2])
    assert failures.errors(groups, truth) == {"divided": [(0, 2)], "joined": [(3, 5)]}
    assert failures.errors(truth, truth) == {"divided": [], "joined": []}


def test_a_picture_of_errors(image_set: ImageSet, tmp_path: Path) -> None:
    path = tmp_path / "errors.jpg"
    counts = failures.draw(path, [("joined", image_set, [(0, 4)]), ("divided", image_set, [])])
    assert counts == {"joined": 1, "divided": 0}
    pixels = np.asarray(Image.open(path))
    middle = failures.CAPTION + failures.SIDE // 2
    assert abs(int(pixels[middle, failures.SIDE // 2, 0]) - 10) < 4
    assert abs(int(pixels[middle, failures.SIDE * 3 // 2 + failures.LINE, 0]) - 50) < 4
    assert failures.draw(path, [("divided", image_set, [])]) == {"divided": 0}
