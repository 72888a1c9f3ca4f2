"""The study of CIFAR-10's near-duplicates."""

import json
from pathlib import Path

import numpy as np

from jaxnets.data.groups import shipped_groups
from studies import cifar10_duplicates
from studies.cifar10_duplicates import TEST, summarize


def test_groups_are_compared_with_judged_pairs() -> None:
    groups = np.arange(TEST + 10)
    groups[[TEST, TEST + 1]] = 7  # two test images with one training image
    groups[TEST + 3] = TEST + 2  # two test images
    judged = {(TEST, 7): 1, (TEST + 2, TEST + 3): 1, (TEST + 5, 8): 2}
    assert summarize(groups, judged) == {
        "images": 5,
        "groups": 2,
        "largest": 3,
        "leaking_test_images": 2,
        "leaking_test_images_in_no_judged_pair": 1,
        "judged_pairs": {"the same shot": {"pairs": 2, "found": 2}, "very similar": {"pairs": 1, "found": 0}},
    }


def test_stored_counts_are_those_of_the_shipped_table_and_of_the_page(repository: Path) -> None:
    stored = json.loads((repository / "results" / cifar10_duplicates.NUMBERS).read_text())
    members = shipped_groups("cifar10").members
    labels = np.unique([group for _, group in members.values()], return_inverse=True)[1]
    is_test = np.array([file.startswith("test_batch") for file in members])
    leaking = is_test & np.isin(labels, labels[~is_test])
    assert stored["images"] == len(members)
    assert stored["groups"] == len(np.unique(labels))
    assert stored["largest"] == np.bincount(labels).max()
    assert stored["leaking_test_images"] == leaking.sum()
    page = " ".join((repository / "docs" / "duplicates.md").read_text().split())
    assert f"{stored['images']:,} images in {stored['groups']:,} groups of 2 to {stored['largest']}" in page
    assert f"{stored['leaking_test_images'] / 100:.2f} % of the test images" in page
    assert (
        f"Of our {stored['leaking_test_images']} leaking test images, "
        f"{stored['leaking_test_images_in_no_judged_pair']} are in no judged pair" in page
    )
