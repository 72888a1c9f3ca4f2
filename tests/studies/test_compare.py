"""Tables and pictures of README and docs: contents, and detection of stale ones."""

import json
from pathlib import Path
from typing import Any

import made_results
import pytest

from jaxnets import models
from jaxnets.errors import CheckFailedError, CheckpointError, ConfigError
from jaxnets.experiment import workdir
from studies import compare
from studies.pages import (
    bench_table,
    curves,
    groupings_table,
    leak_table,
    networks_table,
    results_table,
    splits_picture,
)
from studies.sweeps import row_names

PAGE = """# A page

<!-- comparable -->
old
<!-- end of comparable -->

between

<!-- splits -->
<!-- end of splits -->

<!-- missing -->
<!-- end of missing -->
after
"""
PERFORMANCE = ("training", "inference", "bfloat16", "other", "ops", "layers", "profile", "growth", "gpu")
ROW = {
    "name": "train/resnet50/64/16",
    "title": "training step, ResNet-50",
    "unit": "images",
    "ours": 95.2,
    "theirs": 80.0,
    "baseline": "OpenVINO",
    "ratio": 1.19,
    "ratio_eager": 1.4,
    "ratio_eager_tuned": 1.02,
    "range": [1.1, 1.3],
    "rounds": 5,
}
RESULT = {
    "name": "lung_resnet:scratch",
    "entry": "A/resnet50",
    "image_size": 96,
    "epochs": 10,
    "tests": {"clean": made_results.entry(0.9787, interval=[0.972, 0.984])},
    "images_per_second": 16.9,
}


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A page in a repository with an empty README.md."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("")
    (tmp_path / "docs" / "page.md").write_text(PAGE)
    return tmp_path / "docs" / "page.md"


def write_marks(page: Path, *marks: str) -> None:
    page.write_text("".join(f"<!-- {mark} -->\n<!-- end of {mark} -->\n" for mark in marks))


def write_result(folder: Path, name: str, **changes: Any) -> None:
    made_results.write(folder / name, **{**RESULT, **changes})


def write_bench(folder: Path, file: str, machine: str, *rows: dict[str, Any]) -> None:
    (folder / "bench").mkdir(parents=True, exist_ok=True)
    content = {"machine": machine, "versions": {"jax": "0.10.2", "python": "3"}, "rows": rows}
    (folder / "bench" / file).write_text(json.dumps(content))


def test_tables_are_inserted_between_their_marks(page: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    comparable = {"entry": "C/lenet5", "model": "lenet5", "data": "mnist", "split": "official"}
    comparable |= {"tests": {"clean": made_results.entry(0.9866, interval=[0.98, 0.99])}, "image_size": 28}
    write_result(results, "a-run-s1", **comparable, seed=1)
    write_result(results, "a-run-s0", **comparable)
    write_result(results, "b-run-s0")
    (results / "unfinished").mkdir()
    write_result(results, "of no entry", entry=None)
    with pytest.raises(CheckFailedError, match=r"page.md, .*results.csv, .*A-resnet50.png") as error:
        compare.compare(tmp_path, results, check=True)
    assert not (tmp_path / "docs" / "tables").exists()
    assert error.value.exit_code == 7
    assert page.read_text() == PAGE
    compare.compare(tmp_path, results)
    compare.compare(tmp_path, results, check=True)
    text = page.read_text()
    assert text.startswith("# A page\n\n<!-- comparable -->\n| network |")
    assert text.endswith("<!-- end of missing -->\nafter\n")
    assert "\n\nbetween\n\n" in text
    assert "old" not in text
    (line,) = (line for line in text.splitlines() if "`a-run-s0..1`" in line)
    assert "| 98.66 % (report C) | 98.66 % [98.00, 99.00], 2 seeds ± 0.00 | within | `a-run-s0..1` |" in line
    assert "b-run" not in text  # not comparable: only in the CSV file
    lines = (tmp_path / "docs" / "tables" / "results.csv").read_text().splitlines()
    (line,) = (line for line in lines if line.endswith(",b-run-s0"))
    assert "LEAKY" in line
    assert "not comparable: the report does not state its settings" in line


def test_the_benchmarks_of_each_machine_are_shown(page: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    write_marks(page, *PERFORMANCE)
    write_bench(results, "m-cpu-2026-01-01.json", "old", {**ROW, "ours": 40.0})
    pipeline = {**ROW, "name": "pipeline/a", "title": "JPEG"}
    bfloat16 = {**ROW, "title": "training step, A, bfloat16", "dtype": "bfloat16", "ratio_float32": 1.5}
    bfloat16["name"] = "train/a/bfloat16"
    write_bench(results, "m-cpu-2026-01-02.json", "new", ROW, pipeline, bfloat16)
    compare.compare(tmp_path, results)
    training, rest = page.read_text().split("<!-- end of training -->")
    assert "| ResNet-50 | 95 images/s | OpenVINO: 1.19 [1.10, 1.30] | 1.40, 1.02 |  |  |" in training
    assert training.index("old:\n") < training.index("40 images/s") < training.index("new:\n")
    assert "| JPEG | 95 images/s |" in rest.split("<!-- other -->")[1]
    (line,) = rest.split("<!-- bfloat16 -->")[1].split("<!-- end of bfloat16 -->")[0].splitlines()[5:]
    assert line == "| training step, A | 95 images/s | OpenVINO: 1.19 [1.10, 1.30] | 1.40, 1.02 | 1.50 |  |"
    assert rest.count("Not measured yet.") == 6
    lines = (tmp_path / "docs" / "tables" / "benchmarks.csv").read_text().splitlines()
    assert [line.split(",")[:2] for line in lines] == [
        ["machine", "jax"],
        *[["old", "0.10.2"]],
        *[["new", "0.10.2"]] * 3,
    ]


def test_readme_shows_the_shortest_training_from_scratch(
    repository: Path, page: Path, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    write_marks(page, "splits_short", "networks", "network_sources")
    for split, fraction in (("random", 1.0), ("grouped", 0.0)):
        changes = {"split": split, "overrides": [f"data.split={split!r}"], "leakage": {"test": fraction}}
        for epochs in (10, 3):
            write_result(results, f"{split}-{epochs}", **changes, epochs=epochs)
        write_result(results, f"{split}-transfer", **changes, epochs=1, weights="random")
    compare.compare(tmp_path, results)
    splits, networks = page.read_text().split("<!-- end of splits_short -->")
    heads, _, *lines = splits.splitlines()[1:]
    size = "25,557,032 | 4.09 billion | 224 px, at least 32"
    assert (
        f"| [ResNet-50](../jaxnets/models/resnet.py) | `resnet50` | {size} | `lung_resnet.py` |" in networks
    )
    source = "[He et al. 2015](https://arxiv.org/abs/1512.03385) | A, B | torchvision, Keras"
    assert f"| ResNet-50 | {source} | `hub:timm/resnet50.tv_in1k` |" in networks
    assert all(f"| `{name}` |" in networks for name in models.REGISTRY)
    for config in (*networks_table.CONFIGS.values(), networks_table.OTHERS):
        assert (repository / "configs" / f"{config}.py").is_file()
    assert heads.count("|") == 5
    interval = "97.9 % [97.2, 98.4]"
    assert lines == [f"| ResNet-50, 64 px | 98 % (report A) | {interval} | {interval} |".replace("64", "96")]


def test_the_drop_is_shown_if_both_splits_were_run(page: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    write_result(results, "leaky-s0", overrides=["data.split='random'", "seed=0"])
    write_result(results, "other-s0", epochs=3)
    compare.compare(tmp_path, results)
    lines = page.read_text().splitlines()
    alone = [line for line in lines if line.endswith("| 97.9 % [97.2, 98.4] | not run |  | 1 |")]
    assert [line.split(" | ")[0] for line in alone] == [
        "| ResNet-50, 96 px, 10 epochs",
        "| ResNet-50, 96 px, 3 epochs",
    ]
    (results / "other-s0" / "result.json").unlink()
    clean = made_results.entry(0.9, interval=[0.86, 0.93])
    grouped = {"split": "grouped", "overrides": ["data.split='grouped'"], "tests": {"clean": clean}}
    write_result(results, "grouped-s0", **grouped)
    compare.compare(tmp_path, results)
    (line,) = (line for line in page.read_text().splitlines() if "90.0 % [86.0, 93.0]" in line)
    below = 7.87 - ((97.87 - 97.2) ** 2 + (93 - 90) ** 2) ** 0.5
    above = 7.87 + ((98.4 - 97.87) ** 2 + (90 - 86) ** 2) ** 0.5
    assert f"| 97.9 % [97.2, 98.4] | 90.0 % [86.0, 93.0] | 7.9 [{below:.1f}, {above:.1f}] | 1 |" in line
    assert "| 98 % (report A) |" in line
    for name, other in (("densenet-s0", {"split": "random"}), ("densenet-grouped-s0", grouped)):
        write_result(results, name, **{**other, "entry": None, "model": "densenet121"})
    compare.compare(tmp_path, results)
    (line,) = (line for line in page.read_text().splitlines() if "DenseNet-121, 96 px" in line)
    assert line.startswith("| DenseNet-121, 96 px, 10 epochs | 96.74 % (report B, transfer) ")


def test_print_runs_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_result(tmp_path / "runs", "mine-s0")
    write_result(tmp_path / "elsewhere", "mine-s1", seed=1, hardware="a GPU", images_per_second=500.0)
    write_result(tmp_path / "elsewhere", "mine-s2", seed=2, hardware="a GPU", images_per_second=700.0)
    before = sorted(tmp_path.rglob("*"))
    compare.print_runs([*sorted((tmp_path / "elsewhere").iterdir()), tmp_path / "runs" / "mine-s0"])
    shown = capsys.readouterr()
    message = shown.out.splitlines()
    assert shown.err == ""
    assert len(message) == 3
    assert "3 seeds ± 0.00" in message[2]
    assert "600 a second, a GPU" in message[2]  # of the runs on the most common hardware
    assert sorted(tmp_path.rglob("*")) == before
    write_result(tmp_path / "third", "mine-s0", split_sha256="1" * 64)
    write_result(tmp_path / "fourth", "mine-s0", seed=3)
    compare.print_runs([tmp_path / name / "mine-s0" for name in ("runs", "third", "fourth")])
    message = capsys.readouterr().out
    assert len(message.splitlines()) == 4  # two runs of one data set, one of another
    assert "2 seeds" in message
    assert str(tmp_path / "fourth" / "mine-s0") in message
    config = (tmp_path / "fourth" / "mine-s0" / "config.json").read_bytes()
    made_results.write_files(tmp_path / "unfinished", {"config.json": config})
    with pytest.raises(ConfigError, match="holds no finished run"):
        compare.print_runs([tmp_path / "unfinished"])
    with pytest.raises(CheckpointError, match="contains runs and is not a run"):
        compare.print_runs([tmp_path])


def test_other_groupings_have_separate_rows(page: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    divided = ["data.split='grouped'"]
    write_result(results, "random-s0", overrides=["data.split='random'"])
    for name, more in (
        ("ours", {}),
        ("original", {"group_level": "original"}),
        ("theirs", {"groups": "data/clusters"}),
    ):
        overrides = [*divided, *(f"data.{field}={value!r}" for field, value in more.items())]
        leaks = {"test": 0.06 if name == "original" else 0.0}
        write_result(results, name, split="grouped", overrides=overrides, leakage=leaks, **more)
    compare.compare(tmp_path, results)
    lines = page.read_text().splitlines()
    splits = [line for line in lines if line.endswith(" | 0.0 [-0.9, 0.9] | 1 |")]
    assert [line.split(" | ")[0].partition("10 epochs")[2] for line in splits] == [
        "",
        ", groups by data/clusters",
        ", groups by original",
    ]
    assert [", LEAKY | 0.0" in line for line in splits] == [False, False, True]
    rows = map(results_table.markdown_row, results_table.rows(results))
    assert sorted(row[1] for row in rows if row[-1]) == [
        "LC25000 lung, grouped",
        "LC25000 lung, grouped by data/clusters",
        "LC25000 lung, grouped by original, LEAKY",
        "LC25000 lung, random, LEAKY",
    ]


def test_missing_runs_are_listed(page: Path, tmp_path: Path) -> None:
    names = ["a-random-s0", "a-random-s1", "a-random-s2", "a-grouped-s0", "b-s0"]
    table = tmp_path / "table.py"
    table.write_text(f"def get_rows():\n    return [{{'name': name}} for name in {names}]\n")
    write_result(tmp_path / "results", "a-random-s0")
    (tmp_path / "results" / "b-s0").mkdir()
    compare.compare(tmp_path, tmp_path / "results", sweeps=[table])
    message = "`scripts/reproduce.py table` trains `a-grouped-s0`, `a-random-s1..2`, `b-s0`."
    assert message in page.read_text().splitlines()
    for name in names:
        write_result(tmp_path / "all", name)
    compare.compare(tmp_path, tmp_path / "all", sweeps=[table])
    assert "reproduce.py" not in page.read_text()


def test_the_groupings_table_and_the_splits_picture(
    repository: Path, tmp_path: Path, page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables_of = [repository / "configs" / "sweeps" / f"{name}.py" for name in ("lung", "lung_groupings")]
    known = {name for path in tables_of for name in row_names(path)}
    assert set(groupings_table.RUNS.values()) <= known
    results = tmp_path / "results"
    tested = {"tests": {"clean": made_results.entry(0.9, interval=[0.85, 0.94])}}
    _, by_original, *_ = groupings_table.RUNS.values()
    write_result(results, by_original, **tested, leakage={"test": 0.0625})
    write_marks(page, "splits", "groupings", "colour", "stain")
    compare.compare(tmp_path, results)
    lines = page.read_text().splitlines()
    assert sum("| not run |  | `" in line for line in lines) == 3
    (line,) = (line for line in lines if by_original in line)
    assert "| 90.0 % [85.0, 94.0] | LEAKY: 6.2 % of test images |" in line
    picture = tmp_path / "docs" / "splits.png"
    data = splits_picture.drawn_data(leak_table.single_splits(results))
    assert [row["name"] for row in data["rows"]] == ["ResNet-50, 96 px, 10 epochs"]
    assert data["rows"][0]["reported"] == [98, None]
    assert data["rows"][0]["random"] == [pytest.approx(90), pytest.approx((85, 94))]
    assert data["rows"][0]["grouped"] is None
    splits_picture.draw(picture, data)
    assert curves.is_current(picture, data)
    assert picture.stat().st_size < 20_000


@pytest.mark.parametrize("part", ["docs/tables/results.csv", "curves/A-resnet50.png", "a-run/metrics.jsonl"])
def test_every_stale_part_is_found(page: Path, tmp_path: Path, part: str) -> None:
    results = tmp_path / "results"
    write_result(results, "a-run")
    compare.compare(tmp_path, results)
    path = (tmp_path if part.startswith("docs") else results) / part
    if part.endswith("jsonl"):  # other curves than in the picture
        line = {"step": 5, "epoch": 1.0, "split": "validation", "values": {"loss": 0.5}}
        workdir.write_files(path.parent, {path.name: json.dumps(line) + "\n"})
    else:
        path.unlink()
    with pytest.raises(CheckFailedError, match="out of date"):
        compare.compare(tmp_path, results, check=True)
    compare.compare(tmp_path, results)
    compare.compare(tmp_path, results, check=True)


def test_the_newest_measurement_of_each_row_and_machine_is_shown(tmp_path: Path) -> None:
    alone = dict.fromkeys(("ratio", "ratio_eager", "ratio_eager_tuned", "range"))
    other = {**ROW, "name": "other", "title": "other", "unit": "points", **alone}
    write_bench(tmp_path, "m-cpu-2026-02-01.json", "m", {**ROW, "ratio": 2.0})
    write_bench(tmp_path, "m-cpu-2026-01-31.json", "m", {**ROW, "ratio": 1.0}, other)
    write_bench(tmp_path, "n-cpu-2025-01-01.json", "n", {**ROW, "ratio": 3.0})
    (tmp_path / "bench" / "drift.json").write_text("{}")
    rows = [
        dict(zip(bench_table.CSV_HEADS, row, strict=True)) for row in bench_table.csv_rows(tmp_path / "bench")
    ]
    assert [(row["machine"], row["ratio"]) for row in rows if row["ratio"]] == [("n", 3.0), ("m", 2.0)]
    training, inference, rest = (
        bench_table.section(tmp_path / "bench", mark) for mark in ("training", "inference", "other")
    )
    assert "| OpenVINO: 2.00 [1.10, 1.30] |" in training
    assert "| other | 95 points/s |  |  |  |  |" in rest
    assert inference == "Not measured yet."


@pytest.mark.parametrize(
    ("rate", "unit", "message"),
    [(12345.6, "images", "12,346 images/s"), (1.234, "images", "1.2 images/s"), (0.125, "starts", "8.0 s")],
)
def test_format_rate(rate: float, unit: str, message: str) -> None:
    assert bench_table.format_rate(rate, unit) == message


def test_errors(page: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--root=FOLDER"):
        compare.compare(tmp_path / "docs", tmp_path)
    page.write_text("<!-- splits -->")
    with pytest.raises(ConfigError, match="<!-- end of splits -->"):
        compare.compare(tmp_path, tmp_path)
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "m-2026-01-01.json").write_text("[]")
    with pytest.raises(ConfigError, match="is not a bench file"):
        bench_table.section(tmp_path / "bench", "other")


def test_the_pages_are_up_to_date(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    compare.compare(sweeps=compare.SWEEPS, check=True)


def test_every_table_is_in_a_page(repository: Path) -> None:
    pages = [repository / "README.md", *(repository / "docs").rglob("*.md")]
    text = "".join(path.read_text() for path in pages)
    for mark in compare.sections(repository / "results"):
        assert f"<!-- {mark} -->" in text, mark
    for path in (repository / compare.TABLES).glob("*.csv"):
        assert f"tables/{path.name}" in text, path


@pytest.mark.parametrize("name", ["README.md", "docs/results.md", "docs/performance.md"])
def test_tables_have_at_most_six_columns(repository: Path, name: str) -> None:
    rows = [line for line in (repository / name).read_text().splitlines() if line.startswith("| ---")]
    assert rows
    assert max(row.count("---") for row in rows) <= 6


def test_a_row_without_the_kernels_is_in_the_columns_of_jax() -> None:
    row = {**ROW, "ratio": 0.5, "range": [0.4, 0.6], "ratio_eager": None, "ratio_eager_tuned": 0.25}
    message = ("OpenVINO: 0.50 [0.40, 0.60]", "0.25")
    assert bench_table.cells({**row, "implementation": "in JAX"})[2:] == ("", "", message[0], "")
    assert bench_table.cells({**row, "implementation": "C++ kernels"})[2:] == (*message, "", "")


def test_the_peak_memory_of_both_processes_is_shown() -> None:
    row = {
        "name": "train/a",
        "ours": 20.0,
        "range": None,
        "baseline": "OpenVINO",
        "baseline_eager": "PyTorch",
    }
    memory = {"ours": 3 * 2**29, "PyTorch": 2**29, "OpenVINO": 2**30}
    assert bench_table.cells({**row, "peak_memory": memory})[-1] == "1.50 / 0.50"
    assert bench_table.cells({**row, "peak_memory": memory, "baseline_eager": None})[-1] == "1.50 / 1.00"
    assert bench_table.cells({**row, "peak_memory": {**memory, "ours": None}})[-1] == ""
