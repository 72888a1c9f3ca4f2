"""The leak meter: before a run begins, how much of its test it will have trained on."""

import dataclasses
from typing import Any

from jaxnets.data.cache import CachedSource, ResizedSource
from jaxnets.data.leakage import (
    HELD_OUT,
    ExactDuplicates,
    LabelConflicts,
    content_hashes,
    find_exact_duplicates,
    find_label_conflicts,
    leaked_fractions,
)
from jaxnets.data.sources.image_folder import ImageFiles
from jaxnets.data.splits import Split
from jaxnets.errors import DataError
from jaxnets.evaluation.result import DATASETS_WITH_DUPLICATES
from jaxnets.experiment.data import Data
from jaxnets.runtime.console import Reporter


@dataclasses.dataclass(frozen=True)
class Leak:
    """Shares of held-out images with a sibling in training, None where not known, and exact copies.

    `conflicts` are copies with different labels, wherever in the data.
    """

    shares: dict[str, float | None]
    exact_duplicates: ExactDuplicates | None
    conflicts: LabelConflicts | None = None

    def as_result(self) -> dict[str, Any]:
        """The field `leak` of result.json."""
        return {part: self.shares[part] for part in ("test", "validation")}


def measure_leak(data: Data) -> Leak:
    """What the split lets through; vectors have no siblings that anybody could find."""
    if data.source.kind != "image":
        return Leak(dict.fromkeys(HELD_OUT), None)
    contents = content_hashes(data.source)
    shares = leaked_fractions(data.split, data.group_ids)
    if contents is None:
        return Leak(shares, None)
    conflicts = find_label_conflicts(data.source.labels, contents)
    return Leak(shares, find_exact_duplicates(data.split, contents), conflicts)


def report_leakage(data: Data, leak: Leak, reporter: Reporter) -> None:
    """Says it in one line.

    Raises DataError for exact copies across the parts of a split that is not known to leak, unless the
    recipe allows them. A random split of a data set that is known to hold copies repeats the papers and says
    itself that it leaks, and a publisher's split is the publisher's: both go on.
    """
    if data.source.kind != "image":
        return
    if leak.conflicts is not None:
        reporter.line("warning", _describe_conflicts(data, leak.conflicts))
    copies = leak.exact_duplicates is not None and leak.exact_duplicates.any
    admitted = data.split.name == "random" and data.source.name in DATASETS_WITH_DUPLICATES
    if copies and not (admitted or data.split.name == "official" or _allowed(data)):
        raise DataError(_leakage_error(data, leak))
    reporter.line(
        "leakage",
        _format_fractions(data, leak) + (_format_copies(leak.exact_duplicates) if copies else ""),
    )


def _allowed(data: Data) -> bool:
    return bool(data.config.data.allow_duplicates)


def _format_fractions(data: Data, leak: Leak) -> str:
    known = [(part, share) for part, share in leak.shares.items() if share is not None]
    if (
        data.group_ids is None
        and data.split.name == "random"
        and data.source.name in DATASETS_WITH_DUPLICATES
    ):
        return f"LEAKY: {DATASETS_WITH_DUPLICATES[data.source.name]} (share not measured)"
    if data.group_ids is None or not known:
        return f"not known: no groups of {data.source.name} are known{_how_to_find(data)}"
    message = " and ".join(f"{100 * share:.1f} % of {part} images" for part, share in known)
    leaky = any(share > 0 for _, share in known)
    return f"{'LEAKY: ' if leaky else ''}{message} have a sibling in training{_remedy(data, leaky)}"


def _remedy(data: Data, leaky: bool) -> str:
    return " (--config.data.split=grouped)" if leaky and data.split.name != "grouped" else ""


def _how_to_find(data: Data) -> str:
    source = data.source
    original = source.original if isinstance(source, CachedSource | ResizedSource) else source
    if not isinstance(original, ImageFiles):
        return ""
    return (
        f"; python scripts/find_duplicates.py {original.root} finds them, "
        "--config.data.groups=FILE uses them"
    )


def _describe_conflicts(data: Data, conflicts: LabelConflicts) -> str:
    first, other = (data.source.files[index] for index in conflicts.pair)
    return (
        f"{conflicts.count:,} images are in more than one class, copy for copy ({first} is {other}): "
        "at most one label of each is right; remove the wrong ones"
    )


def _format_copies(exact_duplicates: ExactDuplicates | None) -> str:
    assert exact_duplicates is not None
    counts = {"validation": exact_duplicates.validation, "test": exact_duplicates.test}
    message = " and ".join(f"{count:,} {part}" for part, count in counts.items() if count)
    return f"; {message} images are in another part too, copy for copy"


def _leakage_error(data: Data, leak: Leak) -> str:
    exact_duplicates = leak.exact_duplicates
    assert exact_duplicates is not None
    assert exact_duplicates.pair is not None
    held, seen = (data.source.files[index] for index in exact_duplicates.pair)
    remedy = (
        "its groups are wrong: find them anew with python scripts/find_duplicates.py DIR"
        if data.split.name == "grouped"
        else "find the siblings with python scripts/find_duplicates.py DIR, then use "
        "--config.data.split=grouped --config.data.groups=FILE"
    )
    return (
        f"the {data.split.name} split leaks: {exact_duplicates.test:,} test and "
        f"{exact_duplicates.validation:,} validation images are copies of images in another part ("
        f"{_part(data.split, exact_duplicates.pair[0])} {held} is "
        f"{_part(data.split, exact_duplicates.pair[1])} {seen}); {remedy}, or set "
        "--config.data.allow_duplicates=True"
    )


def _part(split: Split, index: int) -> str:
    return next(part for part, indices in split.parts().items() if index in indices)
