"""Measures train/test leakage before a run starts."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from ml_collections import config_dict

from jaxnets.data import splits
from jaxnets.data.dataset import Dataset
from jaxnets.errors import DataError
from jaxnets.evaluation import result as results
from jaxnets.experiment.run_directory import open_run_if_exists
from jaxnets.experiment.run_files import split_assignment
from jaxnets.io import command
from jaxnets.runtime import console


@dataclasses.dataclass(frozen=True)
class Leakage:
    """How many held-out images have images of their group, or an exact duplicate, in training.

    `fractions` are of the groups by subset, None if unknown. `conflicts` are exact duplicates with
    different labels, anywhere in the data.
    """

    fractions: dict[str, float | None]
    exact_duplicates: splits.ExactDuplicates | None
    conflicts: splits.LabelConflicts | None = None

    def as_result(self) -> dict[str, float | None]:
        """The field `leakage` of result.json."""
        return {part: self.fractions[part] for part in ("test", "validation")}


def measure_leakage(data: Dataset) -> Leakage:
    """The leakage of the split; unknown for vectors."""
    if data.source.kind != "image":
        return Leakage(dict.fromkeys(splits.HELD_OUT), None)
    fractions = splits.leaked_fractions(data.split, data.group_ids)
    contents = data.source.content_hashes()
    if contents is None:
        return Leakage(fractions, None)
    conflicts = splits.find_label_conflicts(data.source.labels, contents)
    return Leakage(fractions, splits.find_exact_duplicates(data.split, contents), conflicts)


def report_leakage(config: config_dict.ConfigDict, data: Dataset, leakage: Leakage) -> None:
    """Prints the leakage.

    Raises DataError if a subset has exact duplicates of images in another one, unless the config allows them.
    Two splits are exempt: a random split of a data set that is known to contain duplicates, which replicates
    published work and is marked LEAKY, and the official split of a published data set, of which only the
    groups are checked, unless jaxnets ships them: the split of CIFAR-10 is also marked LEAKY.
    """
    if data.source.kind != "image":
        return
    is_divided = data.split.name == "official" and any(leakage.fractions.values())
    if is_divided and not data.source.ships_groups and not config.data.allow_duplicates:
        raise DataError(_divided_group_error(data, leakage))
    if leakage.conflicts is not None:
        first, other = map(data.source.locate_example, leakage.conflicts.pair)
        console.warn(
            f"{leakage.conflicts.count:,} images have exact duplicates in another class, such as {first} and "
            f"{other}; at most one label of each is right: remove the wrong ones"
        )
    message, copies = _format_fractions(data, leakage), leakage.exact_duplicates
    if copies is not None:
        is_published = data.split.name == "official" and data.source.name != "table"
        exempt = is_published or _is_known_leaky(data)
        if not (exempt or config.data.allow_duplicates):
            raise DataError(_leakage_error(data, copies))
        message += f"; exact duplicates in another subset: {_format_copies(copies)}"
    console.log("leakage", message)


def warn_of_pretraining(data: Dataset, folder: Path) -> None:
    """Warns if the run in `folder`, whose weights are used, was trained on test images of `data`."""
    run = open_run_if_exists(folder, ignore_damage=True)
    if run is None or not run.split or run.manifest["data_fingerprint"] != data.source.fingerprint:
        return
    seen = {int(row[0]) for row in split_assignment(run.split) if row[3] == "train"}
    if count := sum(int(index) in seen for index in data.split.test):
        console.warn(
            f"{100 * count / len(data.split.test):.1f} % of the test images are training images of {folder}, "
            "whose weights are used: the test accuracy will be too high; split the data as that run did"
        )


def _is_known_leaky(data: Dataset) -> bool:
    return data.split.name == "random" and data.source.name in results.DATASETS_WITH_DUPLICATES


def _format_fractions(data: Dataset, leakage: Leakage) -> str:
    known = {part: value for part, value in leakage.fractions.items() if value is not None}
    if not any(len(data.split.parts()[part]) for part in splits.HELD_OUT):
        return "none: all images are training images"
    if data.group_ids is None and _is_known_leaky(data):
        return f"LEAKY: {results.DATASETS_WITH_DUPLICATES[data.source.name]} (fraction not measured)"
    if data.group_ids is None or not known:
        hint = f"; {data.source.groups_remedy}" if data.source.groups_remedy else ""
        return f"groups unknown{hint}"
    message = " and ".join(f"{100 * value:.1f} % of {part} images" for part, value in known.items())
    leaky, relation = any(known.values()), results.relation(given_groups=data.has_given_groups)
    remedy = " (--config.data.split=grouped)" if leaky and data.split.name != "grouped" else ""
    return f"{'LEAKY: ' if leaky else ''}{message} have {relation} in training{remedy}"


def _divided_group_error(data: Dataset, leakage: Leakage) -> str:
    assert data.group_ids is not None
    part = next(part for part, fraction in leakage.fractions.items() if fraction)
    groups, train = data.group_ids, data.split.train
    held_out = data.split.parts()[part]
    leaking = held_out[np.isin(groups[held_out], groups[train])]
    seen = train[groups[train] == groups[leaking[0]]][0]
    first, other = (data.source.locate_example(index) for index in (leaking[0], seen))
    return (
        f"the official split leaks: {first} is in {part}, and {other} of the same group is in train; "
        f"{len(leaking):,} {part} images have their group in train: give each group one split, use "
        "--config.data.split=grouped, or set --config.data.allow_duplicates=True"
    )


def _leakage_error(data: Dataset, copies: splits.ExactDuplicates) -> str:
    held, seen = (
        next(part for part, indices in data.split.parts().items() if index in indices)
        + f" image {data.source.locate_example(index)}"
        for index in copies.pair
    )
    groups = data.group_ids
    if data.split.name == "official":
        remedy = "remove one of them, give both the same split"
    elif data.split.name == "random" and groups is not None and len(set(groups[list(copies.pair)])) == 1:
        remedy = "both have one group, so use --config.data.split=grouped"
    elif data.source.groups is not None:
        remedy = "give both images the same group, in the table or by --config.data.group_pattern"
    elif data.split.name == "grouped":
        remedy = f"the groups are wrong: find them again with {command('find_duplicates')} DIR"
    else:
        remedy = (
            f"find near-duplicates with {command('find_duplicates')} DIR, then use "
            "--config.data.split=grouped --config.data.groups=FILE"
        )
    return (
        f"the {data.split.name} split leaks: {held} is an exact duplicate of {seen}; "
        f"{_format_copies(copies)} in total: {remedy}, or set --config.data.allow_duplicates=True"
    )


def _format_copies(copies: splits.ExactDuplicates) -> str:
    """Such as "1 validation and 2 test images"."""
    counts = {"validation": copies.validation, "test": copies.test}
    counted = " and ".join(f"{count:,} {part}" for part, count in counts.items() if count)
    return f"{counted} image{'s' * (sum(counts.values()) != 1)}"


def format_split(config: config_dict.ConfigDict, data: Dataset, leakage: Mapping[str, float | None]) -> str:
    """The split's name, with the fraction of held-out images that leak."""
    return results.format_split(
        {
            "data": config.data.name,
            "split": data.split.name,
            "leakage": dict(leakage),
            "groups": config.data.groups,
            "given_groups": data.has_given_groups,
            "group_level": config.data.group_level,
        }
    )
