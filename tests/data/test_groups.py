"""Tables of near-duplicate groups: two formats, matching with a source's files, and errors."""

import gzip
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxnets.data.groups import Groups, read_groups, shipped_groups
from jaxnets.data.sources.cifar10 import BATCHES, IMAGES_PER_BATCH
from jaxnets.data.sources.image_folder import ImageFolder
from jaxnets.data.sources.lc25000 import IMAGES_PER_CLASS, LC25000Lung
from jaxnets.errors import DataError

OURS = "file,original,group\na/1.png,o0,g0\na/2.png,o0,g0\na/10.png,o1,g0\nb/1.png,o2,g1\n"
FILES = ("b/1.png", "a/1.png", "a/2.png", "a/10.png")


def _write(folder: Path, text: str, name: str = "groups.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_write_and_read(tmp_path: Path) -> None:
    groups = read_groups(_write(tmp_path, OURS))
    assert groups.to_csv() == OURS
    packed = tmp_path / "groups.csv.gz"
    groups.write(packed)
    assert read_groups(packed).members == groups.members
    assert packed.read_bytes()[4:8] == bytes(4)  # no timestamp, so the bytes are reproducible
    groups.write(tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_text() == OURS


def test_numbers_follow_the_order_of_files(tmp_path: Path) -> None:
    originals, groups = read_groups(_write(tmp_path, OURS)).match(FILES)
    np.testing.assert_array_equal(originals, [0, 1, 1, 2])
    np.testing.assert_array_equal(groups, [0, 1, 1, 1])
    assert originals.dtype == groups.dtype == np.int64


def test_lc25000_clean_labels_are_numbered_per_class(tmp_path: Path) -> None:
    for name in ("x", "y"):
        _write(
            tmp_path,
            "cluster_label,img_path\n"
            + "".join(f"{label},./LC25000/{name}/{name}{label}{n}.jpeg\n" for label in "01" for n in "ab"),
            f"{name}.csv",
        )
    groups = read_groups(tmp_path)
    files = [f"{name}/{name}{label}{n}.jpeg" for name in "xy" for label in "01" for n in "ab"]
    originals, numbers = groups.match(files)
    np.testing.assert_array_equal(numbers, [0, 0, 1, 1, 2, 2, 3, 3])
    np.testing.assert_array_equal(originals, numbers)
    assert len(read_groups(tmp_path / "x.csv").members) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (OURS + "a/1.png,o2,g1\n", "line 6: a/1.png is in two groups"),
        (OURS + "a/1.png,o0,g0\n", "a/1.png is listed twice"),
        (OURS + "a/3.png,o0,g1\n", "original o0 is in two groups, g0 and g1"),
        (OURS + "a/3.png,o0\n", "line 6: wrong number of values"),
        (OURS + "a/3.png,o0,g0,x\n", "line 6: wrong number of values"),
        ("file,original\na,b\n", "lacks the columns file,original,group"),
        ("", "lacks the columns"),
        ("file,original,group\n", "lists no files"),
        ("\x00\xff", "groups.csv"),
    ],
)
def test_invalid_table_raises(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as raised:
        read_groups(_write(tmp_path, text))
    assert "\n" not in str(raised.value)


def test_other_files_raise(tmp_path: Path) -> None:
    (tmp_path / "picture.csv").write_bytes(b"\xff\xd8\xff\xe0")
    (tmp_path / "short.csv.gz").write_bytes(gzip.compress(OURS.encode())[:-9])
    (tmp_path / "empty").mkdir()
    for name, message in {
        "picture.csv": "damaged or not a csv",
        "short.csv.gz": "damaged or not a csv",
        "empty": "no csv file in this folder",
        "nowhere.csv": "cannot be read",
    }.items():
        with pytest.raises(DataError, match=message):
            read_groups(tmp_path / name)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ((*FILES, "b/2.png"), r"1 of the data's 5 files are missing \(b/2.png\)"),
        (FILES[1:], r"lists 1 files that are not in the data \(b/1.png\)"),
    ],
)
def test_table_for_other_data_raises(tmp_path: Path, files: tuple[str, ...], message: str) -> None:
    groups = read_groups(_write(tmp_path, OURS))
    with pytest.raises(DataError, match=message):
        groups.match(files)


def test_shipped_tables() -> None:
    assert LC25000Lung.ships_groups
    assert len(shipped_groups(LC25000Lung.name).members) == 3 * IMAGES_PER_CLASS
    assert not ImageFolder.ships_groups


def test_cifar10_s_table_lists_near_duplicates_only() -> None:
    listed = shipped_groups("cifar10").members
    sizes = Counter(group for _, group in listed.values())
    assert min(sizes.values()) == 2
    files = [f"{batch}/{number:05d}" for batch in BATCHES for number in range(IMAGES_PER_BATCH)]
    assert listed.keys() < set(files)
    _, groups = shipped_groups("cifar10", files).match(files)
    assert groups.max() + 1 == 60_000 - len(listed) + len(sizes)
    leaked = np.isin(groups[50_000:], groups[:50_000]).mean()
    page = (Path(__file__).parents[2] / "docs" / "duplicates.md").read_text()
    assert f"{100 * leaked:.2f} % of the test images" in " ".join(page.split())


@settings(max_examples=25, deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1), st.integers(0, 5), min_size=1
    )
)
def test_write_and_read_any_file_name(
    tmp_path_factory: pytest.TempPathFactory, table: dict[str, int]
) -> None:
    members = {file: (f"o{label}", f"g{label // 2}") for file, label in table.items()}
    path = tmp_path_factory.mktemp("any") / "groups.csv"
    Groups("any", members).write(path)
    assert read_groups(path).members == members


def test_write_and_read_names_that_look_like_formulas(tmp_path: Path) -> None:
    files = ["=a/1.png", "-b/2.png", "'=c/3.png", "@d/4.png", "e/5.png"]
    table = Groups("own", {file: (f"+{number}", "g") for number, file in enumerate(files)})
    table.write(tmp_path / "groups.csv")
    lines = (tmp_path / "groups.csv").read_text().splitlines()
    assert not any(line.startswith(("=", "+", "-", "@")) or ",+" in line for line in lines)
    assert read_groups(tmp_path / "groups.csv").members == table.members
