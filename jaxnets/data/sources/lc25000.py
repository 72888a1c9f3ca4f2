"""LC25000: the 15,000 images of lung tissue (Borkowski et al., arXiv:1912.12142)."""

import glob
import operator
from pathlib import Path

from jaxnets.data.images import MAX_PIXELS
from jaxnets.data.sources.base import PreparedSource
from jaxnets.data.sources.image_folder import ImageFiles, is_image_name
from jaxnets.errors import DataError
from jaxnets.io import command

CLASSES = ("adenocarcinoma", "benign", "squamous cell carcinoma")
FOLDERS = {"lung_aca": "lungaca", "lung_n": "lungn", "lung_scc": "lungscc"}
"""By label: each class's folder, and the prefix of its file names."""
IMAGES_PER_CLASS = 5_000


class LC25000Lung(ImageFiles, PreparedSource):
    """The lung images, by class and then by number: lungaca1 to lungaca5000, lungn1, ...

    `root` contains the folders lung_aca, lung_n and lung_scc, at most three levels down. The official files
    (768 px) and copies of other sizes are accepted; `files` are relative to the parent of the three folders.
    Raises DataError unless the set is complete.
    """

    name = "lc25000_lung"
    ships_groups = True
    member_pattern = r"lung_(aca/lungaca|n/lungn|scc/lungscc)[^/]*\.(?i:jpe?g|png|tiff?|webp)"

    def __init__(self, root: str | Path, *, images_per_class: int = IMAGES_PER_CLASS):
        folder = find_complete(Path(root), images_per_class)
        class_of = {
            f"{name}/{file}": class_name
            for (name, prefix), class_name in zip(FOLDERS.items(), CLASSES, strict=True)
            for file in _expected_names(prefix, images_per_class)
        }
        super().__init__(folder, class_of, CLASSES, MAX_PIXELS)

    @classmethod
    def find_members(cls, root: Path) -> list[tuple[str, Path]]:
        source = cls(root)
        return [(f"lung_image_sets/{file}", source.root / file) for file in source.files]


def find_complete(root: Path, images_per_class: int = IMAGES_PER_CLASS) -> Path:
    """Finds the folder with the complete set by file names; raises DataError that lists what is missing."""
    expected = (
        f"expected all {images_per_class:,} images per class of LC25000's lung_image_sets; copy it again, "
        f"or run: {command('prepare_data')} lc25000_lung --from=PATH (or --kaggle)"
    )
    if not root.is_dir():
        raise DataError(f"{root}: folder does not exist; {expected}")
    # The official zip has lung_colon_image_set/lung_image_sets/lung_aca.
    below = [name for depth in ("*/", "*/*/") for name in sorted(glob.glob(depth, root_dir=root))]
    problems = [(-1, f"{root}: does not contain the folders {', '.join(FOLDERS)}")]
    for folder in (root, *(root / name for name in below)):
        if any((folder / name).is_dir() for name in FOLDERS):
            found, problem = _check_names(folder, images_per_class)
            if not problem:
                return folder
            problems.append((found, f"{folder}: {problem}"))
    _, closest = max(problems, key=operator.itemgetter(0))
    raise DataError(f"{closest}; {expected}")


def _check_names(folder: Path, images_per_class: int) -> tuple[int, str]:
    """Counts the expected images; describes missing and unexpected ones, "" if the set is complete."""
    total, problems = 0, []
    for name, prefix in FOLDERS.items():
        expected = _expected_names(prefix, images_per_class)
        found = set(filter(is_image_name, glob.glob("*", root_dir=folder / name)))
        missing = [file for file in expected if file not in found]
        total += (count := images_per_class - len(missing))
        if missing:
            counted = f"{count:,} of {images_per_class:,} images"
            problems.append(f"{name} has {counted} ({missing[0]} is missing)")
        elif unexpected := found.difference(expected):
            problems.append(f"{name} has {min(unexpected)}, which is not part of the set")
    return total, ", ".join(problems)


def _expected_names(prefix: str, images_per_class: int) -> list[str]:
    return [f"{prefix}{number}.jpeg" for number in range(1, images_per_class + 1)]
