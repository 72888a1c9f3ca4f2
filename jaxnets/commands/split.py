"""Write the split of a dataset without training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxnets.data.splits import Split
from jaxnets.errors import ConfigError
from jaxnets.experiment.data import open_dataset
from jaxnets.experiment.leakage import measure_leakage, report_leakage
from jaxnets.experiment.resolve import check_not_empty, load_config_or_demo
from jaxnets.io import atomic_write, require_folder
from jaxnets.runtime import console


def write_split(spec: str, overrides: Mapping[str, Any], out: Path) -> Split:
    """Writes a config's split, `index,file,label,split,group`, identical to a run's split.csv.

    Raises ConfigError if `out` exists with other content, DataError if the data cannot be split this way or
    the split leaks.
    """
    config = load_config_or_demo(spec, overrides)
    data = open_dataset(config)
    check_not_empty(data.split)
    report_leakage(config, data, measure_leakage(data))
    split, text = data.split, data.split_csv
    if out.exists() and (not out.is_file() or out.read_bytes() != text.encode()):
        raise ConfigError(f"--out={out} exists with other content: give another file")
    require_folder(out.parent)
    atomic_write(out, text)
    console.log("saved", str(out))
    return split
