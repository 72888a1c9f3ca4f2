"""configs/breakhis.py and configs/nct_crc_he.py on a few images in the format of the data sets."""

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxnets.data.dataset import Dataset
from jaxnets.data.splits import leaked_fractions
from jaxnets.experiment.data import open_dataset
from jaxnets.experiment.leakage import measure_leakage, report_leakage
from jaxnets.experiment.resolve import load_config

PATIENTS = {
    "benign": ("A-14-22549AB", "F-14-9133", "PT-14-21998AB", "TA-14-3411F", "A-14-22549CD", "F-14-23060")
}
PATIENTS["malignant"] = (
    "DC-14-10926",
    "LC-14-12204",
    "MC-14-10147",
    "PC-14-9146",
    "DC-14-2523",
    "DC-14-11031",
)


def _draw(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 255, (12, 16, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def _open(repository: Path, name: str, path: Path, root: Path) -> tuple[Dataset, str]:
    """The data of a config's variant smoke, and the message of its leakage."""
    spec = f"{repository / 'configs' / name}.py:smoke"
    config = load_config(spec, {"data.path": str(path), "data.root": str(root)})
    data = open_dataset(config)
    assert config.data.medical
    report_leakage(config, data, measure_leakage(data))
    return data, config.name


def test_breakhis_is_split_by_patient(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = {"A": "adenosis", "F": "fibroadenoma", "PT": "phyllodes_tumor", "TA": "tubular_adenoma"}
    kinds |= {"DC": "ductal_carcinoma", "LC": "lobular_carcinoma", "MC": "mucinous_carcinoma"}
    kinds["PC"] = "papillary_carcinoma"
    number, root = 0, tmp_path / "BreaKHis_v1" / "histology_slides" / "breast"
    for label, patients in PATIENTS.items():
        for patient in patients:
            kind, slide = patient.split("-", 1)
            name = f"SOB_{label[0].upper()}_{patient}"
            for zoom in (40, 100, 200, 400):
                folder = root / label / "SOB" / kinds[kind] / f"SOB_{label[0].upper()}_{kind}_{slide}"
                _draw(folder / f"{zoom}X" / f"{name}-{zoom}-001.png", number := number + 1)
    data, name = _open(repository, "breakhis", root, tmp_path)
    assert (name, data.source.classes, len(data.source)) == ("breakhis:smoke", ("benign", "malignant"), 48)
    assert data.group_ids is not None
    patients_of = [re.findall(r"14-\d+[A-Z]*", file)[-1] for file in data.source.files]
    assert len(set(zip(patients_of, data.group_ids, strict=True))) == len(set(patients_of)) == 12
    assert leaked_fractions(data.split, data.group_ids) == {"validation": 0.0, "test": 0.0}
    assert min(map(len, data.split.parts().values())) >= 8
    assert "have images of their group in training" in capsys.readouterr().out


def test_nct_crc_he_has_an_official_split_and_unknown_groups(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classes = ("ADI", "BACK", "DEB", "LYM", "MUC", "MUS", "NORM", "STR", "TUM")
    for number, name in enumerate(classes):
        for image in range(12):
            letters = f"{chr(65 + image)}AAA"
            _draw(tmp_path / "NCT-CRC-HE-100K" / name / f"{name}-{letters}QKR.tif", 100 * number + image)
            if image < 2:
                file = f"{name}-TCGA-{letters}NFE.tif"
                _draw(tmp_path / "CRC-VAL-HE-7K" / name / file, 1000 + 100 * number + image)
    page = (repository / "docs" / "own_data.md").read_text()
    (command,) = re.findall(r"```\n(find NCT.*?)```", page, re.DOTALL)
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    data, name = _open(repository, "nct_crc_he", tmp_path / "table.csv", tmp_path)
    assert (name, data.source.classes) == ("nct_crc_he:smoke", classes)
    assert [len(part) for part in data.split.parts().values()] == [99, 9, 18]
    assert all("CRC-VAL-HE-7K" in data.source.files[index] for index in data.split.test)
    assert data.group_ids is None
    assert "groups unknown; add a column group" in capsys.readouterr().out
