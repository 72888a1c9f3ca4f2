"""What a search for near-duplicates found, in numbers and in pairs to look at."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxnets.data.near_duplicates.features import Settings
from jaxnets.data.near_duplicates.search import Duplicates, Overlap, is_same_original
from jaxnets.data.sources.image_folder import ImageFiles
from jaxnets.data.splits import leaked_fractions, random_split
from jaxnets.errors import DataError

RANDOM_FRACTIONS = (0.7, 0.15, 0.15)
_SEEDS = 20


class Shown(NamedTuple):
    """A verified pair to show, and why."""

    pair: np.void  # a record of `verification.PAIR`
    caption: str


@dataclasses.dataclass(frozen=True)
class Summary:
    """Describes the duplicates that were found in `images`."""

    images: ImageFiles
    found: Duplicates
    settings: Settings

    def numbers(self) -> dict[str, Any]:
        """Counts, leakage, the margins of the decisions, and the settings, for a JSON file."""
        images, found, settings = self.images, self.found, self.settings
        strong = found.pairs[found.pairs["inliers"] >= settings.original_inliers]
        same = is_same_original(strong, settings)
        sizes = np.bincount(found.groups)
        of_class = {name or ".": images.labels == label for label, name in enumerate(images.classes)}
        label_of = images.labels[np.unique(found.originals, return_index=True)[1]]
        joined = [overlap for overlap in found.overlaps if overlap.joined]
        across = [overlap for overlap in joined if label_of[overlap.first] != label_of[overlap.second]]
        return {
            "images": len(images),
            "exact_copies": len(images) - len(np.unique(found.contents)),
            "originals": int(found.originals.max()) + 1,
            "groups": int(found.groups.max()) + 1,
            "images_without_near_duplicate": int((sizes == 1).sum()),
            "largest_group": int(sizes.max()),
            "leakage": self._leakage(),
            "classes": {
                name: {
                    "images": int(members.sum()),
                    "originals": len(np.unique(found.originals[members])),
                    "groups": len(np.unique(found.groups[members])),
                }
                for name, members in of_class.items()
            },
            "overlaps": {
                "joined": len(joined),
                "joined_across_classes": len(across),
                "left_apart_with_evidence": len(found.overlaps) - len(joined),
                "doubtful": sum(map(self._is_doubtful, found.overlaps)),
            },
            "confidence": {
                "pairs_compared": found.compared,
                "pairs_verified": len(found.pairs),
                "largest_centre_distance_within_an_original": _extreme(strong[same], max),
                "smallest_centre_distance_between_originals": _extreme(strong[~same], min),
                "images_with_too_few_keypoints": int(found.too_plain.sum()),
                "doubtful_copies": len(self._weak_copies()),
            },
            "settings": dataclasses.asdict(settings),
        }

    def _leakage(self) -> dict[str, Any]:
        """The fraction of test images with a near-duplicate in training: as given, and in a random split."""
        found, leaked = self.found, self.found.leaked
        fractions: list[float] = []
        for seed in range(_SEEDS):
            try:
                split = random_split(self.images.labels, RANDOM_FRACTIONS, seed)
            except DataError:  # a class is too small for three subsets
                break
            fractions.append(leaked_fractions(split, found.groups)["test"] or 0.0)
        tested = int(found.is_test.sum())
        return {
            "test_images": tested,
            "test_images_with_near_duplicate": len(leaked),
            "test_fraction": len(leaked) / tested if tested else None,
            "test_files": {found.files[index]: self._training_file(index) for index in leaked.tolist()},
            "random_split_test_fraction": float(np.mean(fractions)) if fractions else None,
        }

    def _training_file(self, index: int) -> str:
        """A near-duplicate of a test image in training, of the same original if possible."""
        found = self.found
        near = np.flatnonzero((found.groups == found.groups[index]) & ~found.is_test)
        copies = near[found.originals[near] == found.originals[index]]
        return found.files[(copies if len(copies) else near)[0]]

    def _is_doubtful(self, overlap: Overlap) -> bool:
        """Whether an overlap, joined or not, has few inliers and should be reviewed."""
        return overlap.inliers < 2 * self.settings.overlap_inliers

    def largest(self, most: int) -> list[Shown]:
        """Overlaps of the largest groups, then the strongest pair of each of the largest originals."""
        found = self.found
        sizes = np.bincount(found.groups)
        group_of = found.groups[np.unique(found.originals, return_index=True)[1]]
        joined = [overlap for overlap in found.overlaps if overlap.joined]
        joined.sort(key=lambda overlap: (-sizes[group_of[overlap.first]], group_of[overlap.first]))
        shown = [_show_overlap(overlap) for overlap in joined[: most // 2]]
        pairs = found.pairs[is_same_original(found.pairs, self.settings)]
        original = found.originals[pairs["first"]]
        size = np.bincount(found.originals)[original]
        order = np.lexsort((-pairs["inliers"], -pairs["correlation"], original, -size))
        _, first = np.unique(original[order], return_index=True)
        chosen = order[np.sort(first)[: most - len(shown)]]
        return shown + [
            Shown(pairs[row], f"copies: {_evidence(pairs[row])}; {size[row]} images of this original")
            for row in chosen.tolist()
        ]

    def _weak_copies(self) -> np.ndarray:
        """Rows of `found.pairs`, weakest first: the strongest pair of each image with few inliers in all.

        They are the only evidence that the image belongs to its original. Small images have none.
        """
        pairs = self.found.pairs
        rows = np.flatnonzero(is_same_original(pairs, self.settings) & (pairs["correlation"] == 0))
        image = np.concatenate([pairs["first"][rows], pairs["second"][rows]])
        rows = np.concatenate([rows, rows])
        order = np.lexsort((-pairs["inliers"][rows], image))
        _, first = np.unique(image[order], return_index=True)
        strongest = np.unique(rows[order[first]])
        weak = strongest[pairs["inliers"][strongest] < 2 * self.settings.original_inliers]
        return weak[np.argsort(pairs["inliers"][weak], kind="stable")]

    def doubtful(self, most: int) -> list[Shown]:
        """The overlaps with the least evidence, weakest last, then the weakest copies."""
        near = [overlap for overlap in self.found.overlaps if self._is_doubtful(overlap)]
        near.sort(key=lambda overlap: (-overlap.strong, -overlap.inliers))
        shown = [_show_overlap(overlap) for overlap in near[:most]]
        weak = self._weak_copies()[: most - len(shown)]
        return shown + [Shown(pair, f"copies: {_evidence(pair)}") for pair in self.found.pairs[weak]]

    def leaked(self, most: int) -> list[Shown]:
        """The strongest verified pairs of a test image and a training image, one for each test image."""
        found = self.found
        ends = np.stack([found.pairs["first"], found.pairs["second"]])
        crossing = np.flatnonzero(
            (found.is_test[ends].sum(0) == 1) & (found.groups[ends[0]] == found.groups[ends[1]])
        )
        test = np.where(found.is_test[ends[0]], ends[0], ends[1])[crossing]
        strength = [-found.pairs[name][crossing] for name in ("correlation", "inliers")]
        order = np.lexsort(strength)
        _, first = np.unique(test[order], return_index=True)
        chosen = crossing[order[np.sort(first)[:most]]]
        return [Shown(found.pairs[row], _evidence(found.pairs[row])) for row in chosen.tolist()]


def _evidence(pair: np.void) -> str:
    if pair["correlation"]:
        return f"correlation of details {pair['correlation']:.2f}"
    return f"{pair['inliers']} inliers"


def _show_overlap(overlap: Overlap) -> Shown:
    verdict = "joined" if overlap.joined else "not joined"
    evidence = f"{overlap.strong} strong pairs, {overlap.inliers} inliers"
    return Shown(
        overlap.pairs[0], f"{verdict}: {evidence}, {100 * overlap.common_fraction:.0f} % common area"
    )


def _extreme(pairs: np.ndarray, reduce: Callable[[Any], float]) -> float | None:
    return round(float(reduce(pairs["centre"])), 2) if len(pairs) else None
