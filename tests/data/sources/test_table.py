"""Tables of images: paths, labels, groups and splits; errors name the rows."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxnets.data.sources.table import Table
from jaxnets.data.splits import make_split
from jaxnets.errors import ConfigError, DataError

ROWS = (
    "path,label,group,split",
    "slides/a1.png,tumour,p1,train",
    "slides/a2.png,tumour,p1,train",
    "slides/b1.png,normal,p2,train",
    "slides/c1.png,tumour,p3,test",
    "more/d1.png,normal,p4,test",
)

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes the rows to a table beside small images of one colour."""
    for level, row in enumerate(ROWS[1:]):
        path = tmp_path / row.split(",")[0]
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 3), (level, 0, 0)).save(path)

    def write(*rows: str, encoding: str = "utf-8") -> Path:
        table = tmp_path / "table.csv"
        table.write_bytes("\r\n".join(rows).encode(encoding))
        return table

    return write


def test_labels_groups_and_splits(write: Write) -> None:
    source = Table(write(*ROWS))
    assert source.classes == ("normal", "tumour")
    assert source.files == tuple(row.split(",")[0] for row in ROWS[1:])
    np.testing.assert_array_equal(source.labels, np.array([1, 1, 0, 1, 0], np.int32))
    np.testing.assert_array_equal(source.groups, [0, 0, 1, 2, 3])
    assert source.official_split is not None
    assert {name: part.tolist() for name, part in source.official_split.items()} == {
        "train": [0, 1, 2],
        "test": [3, 4],
    }
    example = source[3]
    assert example["image"].shape == (3, 4, 3)
    assert (example["image"][..., 0] == 3).all()
    assert (example["label"], example["index"]) == (1, 3)
    assert source.locate_example(4) == "row 6 (more/d1.png)"


def test_optional_columns_other_columns_order_and_blank_rows(write: Write) -> None:
    rows = ("age,label,path", "50,x,slides/a1.png", ",,", "", '"1,5"," y ",slides/b1.png')
    source = Table(write(*rows, encoding="utf-8-sig"))
    assert (source.classes, source.files) == (("x", "y"), ("slides/a1.png", "slides/b1.png"))
    assert (source.groups, source.official_split) == (None, None)
    assert source.locate_example(1) == "row 5 (slides/b1.png)"


def test_classes_set_the_order_of_labels(write: Write) -> None:
    source = Table(write(*ROWS), classes=("tumour", "normal"))
    assert source.labels.tolist() == [0, 0, 1, 0, 1]


def test_several_folders_and_absolute_paths(write: Write, tmp_path: Path) -> None:
    rows = ("path,label", "a1.png,x", f"{tmp_path}/more/../more/d1.png,y")
    source = Table(write(*rows), image_folders=(tmp_path / "slides", tmp_path / "more"))
    assert source.files == ("slides/a1.png", "more/d1.png")
    assert source[1]["image"][0, 0, 0] == 4


def test_groups_from_a_pattern(write: Write) -> None:
    rows = ("path,label", "slides/a1.png,x", "slides/a2.png,x", "slides/b1.png,y")
    source = Table(write(*rows), group_pattern=r"/(\w)\d\.png$")
    np.testing.assert_array_equal(source.groups, [0, 0, 1])
    with pytest.raises(ConfigError, match=r"has a column group: remove --config\.data\.group_pattern"):
        Table(write(*ROWS), group_pattern=r"(\w)")


def test_fingerprint_depends_on_labels_and_contents(write: Write, tmp_path: Path) -> None:
    first = Table(write(*ROWS)).fingerprint
    assert Table(write(*ROWS, "")).fingerprint == first
    swapped = [row.replace("b1.png,normal", "b1.png,tumour") for row in ROWS]
    assert Table(write(*swapped)).fingerprint != first
    Image.new("RGB", (4, 3), "white").save(tmp_path / "slides/a1.png")
    assert Table(write(*ROWS)).fingerprint != first


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (("slides/x.png,x",), r"row 7: slides/x\.png is not a file in .*; correct the path"),
        (("slides\\a1.png,x",), r"row 7: slides\\a1\.png is not a file.*write / instead of"),
        (("slides,x",), r"row 7: slides is not a file"),
        (
            ("./slides/a1.png,x",),
            r"row 7: \./slides/a1\.png is listed in row 2 already; list each image once",
        ),
        (("../a1.png,x",), r"row 7: \.\./a1\.png is outside of .*image_folders"),
        (("/etc/hostname,x",), r"row 7: /etc/hostname is outside of"),
        (("slides/a1.png,",), r"row 7: label is empty; fill the column label"),
        (("slides/a1.png",), r"row 7: has 1 values, and the header has 2; put quotes"),
        (("slides/a1.png,x,",), r"row 7: has 3 values"),
        (("=A1,x",), r"row 7: path is a formula, '=A1'; write the value"),
        (('slides/a1.png,"=HYPERLINK(""x"")"',), r"row 7: label is a formula"),
        (('slides/"a1.png,"x"y',), r"row 7: is not valid CSV .*correct its quotes"),
        (tuple(f"{n}.png,x" for n in range(9)), r"row 7: .*\(also rows 8, 9, 10, 11, 12 and 3 more\)"),
        (("1.png,x", "slides/a1.png,x", "2.png,x"), r"row 7: .*\(also row 9\); correct the path"),
    ],
)
def test_problems_of_rows_name_the_rows(write: Write, rows: tuple[str, ...], message: str) -> None:
    good = [",".join(row.split(",")[:2]) for row in ROWS]
    with pytest.raises(DataError, match=message) as caught:
        Table(write(*good, *rows))
    assert "\n" not in str(caught.value)


def test_a_path_in_two_folders_is_ambiguous(write: Write, tmp_path: Path) -> None:
    (tmp_path / "more" / "a1.png").write_bytes((tmp_path / "slides" / "a1.png").read_bytes())
    table = write("path,label", "a1.png,x", "d1.png,y")
    with pytest.raises(DataError, match=r"row 2: a1\.png is in several folders, .*write an absolute path"):
        Table(table, image_folders=(tmp_path / "slides", tmp_path / "more"))


def test_escaped_formulas_and_signs_are_text(write: Write) -> None:
    source = Table(write("path,label", "slides/a1.png,'=x", "slides/b1.png,-", "slides/c1.png,+"))
    assert source.classes == ("+", "-", "=x")


def test_unknown_labels_and_splits(write: Write) -> None:
    with pytest.raises(
        DataError, match=r"row 2: unknown label 'tumour' \(did you mean tumor\?\) \(also rows"
    ):
        Table(write(*ROWS), classes=("tumor", "normal"))
    with pytest.raises(DataError, match=r"row 3: split is 'trian' \(did you mean train\?\); use one of"):
        Table(write(*ROWS[:2], "slides/a2.png,tumour,p1,trian"))
    with pytest.raises(DataError, match=r"no row has the label other"):
        Table(write(*ROWS), classes=("tumour", "normal", "other"))
    with pytest.raises(DataError, match=r"all rows have the label tumour"):
        Table(write(*ROWS[:3]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path;label\nslides/a1.png;x", "separated by semicolons; save it with commas"),
        ("path\tlabel\nslides/a1.png\tx", "separated by tabs"),
        (
            "path,label\nslides/a1.png,caf\xe9".encode("latin-1"),
            r"UTF-8 \(row 2 has the byte 0xe9\); save it",
        ),
        ("path,label\n".encode("utf-16"), "encoded as UTF-16; save it as CSV UTF-8"),
        ("path,label\n".encode("utf-16-le"), "contains zero bytes"),
        (b"PK\x03\x04...", "is a spreadsheet or zip file"),
        ("file,class\n", r"the column path is missing, found file, class; the columns are path,label"),
        ("path,label,label\n", "has two columns label"),
        ("path,label\n", "has no rows"),
        ("", "has no rows"),
    ],
)
def test_other_formats_raise(tmp_path: Path, content: str | bytes, message: str) -> None:
    table = tmp_path / "table.csv"
    table.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=rf"table\.csv: .*{message}"):
        Table(table)


def test_missing_tables_and_folders_raise(write: Write, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.csv: cannot be read"):
        Table(tmp_path / "nowhere.csv")
    with pytest.raises(
        DataError, match=r"\(Is a directory\); give a CSV .*, or set --config\.data\.name=image_f"
    ):
        Table(tmp_path)
    with pytest.raises(ConfigError, match=r"image_folders: .*nowhere is not a folder"):
        Table(write(*ROWS), image_folders=("nowhere",))


def test_unreadable_images_name_the_row(write: Write, tmp_path: Path) -> None:
    source = Table(write(*ROWS))
    (tmp_path / "slides" / "b1.png").write_text("no picture")
    with pytest.raises(
        DataError, match=r"table\.csv, row 4: .*b1\.png: cannot be read as an image, it is text"
    ):
        source[2]


def _split(source: Table, **fields: float) -> object:
    settings = {"fractions": (0.7, 0.15, 0.15), "validation_fraction": 0.0, "seed": 0, **fields}
    return make_split(source, "official", groups=source.groups, **settings)  # type: ignore[arg-type]


def test_official_split_has_the_validation_rows(write: Write) -> None:
    rows = [*ROWS[:3], "slides/b1.png,normal,p2,validation", *ROWS[4:]]
    rows[2] = "slides/a2.png,normal,p1,train"
    source = Table(write(*rows))
    split = make_split(
        source, "official", fractions=(1, 0, 0), validation_fraction=0, seed=0, groups=source.groups
    )
    assert [part.tolist() for part in split.parts().values()] == [[0, 1], [2], [3, 4]]
    with pytest.raises(ConfigError, match=r"has validation examples: remove --config\.data\.validation_frac"):
        _split(source, validation_fraction=0.2)


def test_a_table_without_official_split_names_the_column(write: Write) -> None:
    rows = [row.rsplit(",", 1)[0] for row in ROWS]
    remedy = (
        r"write train or test into the column split of .*table\.csv, or use --config\.data\.split=grouped"
    )
    with pytest.raises(DataError, match=f"has no official train and test: {remedy}"):
        _split(Table(write(*rows)))
    with pytest.raises(DataError, match=f"has no official train and test, only train: {remedy}"):
        _split(Table(write(*ROWS[:4])))


def test_official_split_draws_validation_by_groups(tmp_path: Path) -> None:
    rows = ["path,label,group,split"]
    for number in range(40):
        Image.new("RGB", (2, 2), (number, 0, 0)).save(tmp_path / f"{number}.png")
        part = "train" if number < 32 else "test"
        rows.append(f"{number}.png,{'xy'[number % 2]},{number // 4},{part}")
    (tmp_path / "table.csv").write_text("\n".join(rows))
    source = Table(tmp_path / "table.csv")
    assert source.groups is not None
    split = make_split(
        source, "official", fractions=(1, 0, 0), validation_fraction=0.25, seed=0, groups=source.groups
    )
    assert [len(part) for part in split.parts().values()] == [24, 8, 8]
    assert not np.isin(source.groups[split.validation], source.groups[split.train]).any()


def test_label_without_training_examples_raises(write: Write) -> None:
    source = Table(write(*ROWS[:3], *ROWS[4:]))
    with pytest.raises(DataError, match=r"row 5 \(more/d1\.png\) has the label 'normal', which no training"):
        _split(source)


def test_file_names_are_relative_to_the_table(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    table = write(*ROWS)
    monkeypatch.chdir(table.parent)
    assert Table(table.name).files == Table(os.path.abspath(table)).files
