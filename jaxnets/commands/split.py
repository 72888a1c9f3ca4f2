"""Write the split of a dataset without training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxnets import config as config_lib
from jaxnets.data import sources
from jaxnets.data.splits import Split
from jaxnets.errors import ConfigError
from jaxnets.experiment.data import Data, check_not_empty, resolve, split_source
from jaxnets.experiment.leakage import measure_leakage, report_leakage
from jaxnets.io import atomic_write, require_folder
from jaxnets.runtime.console import Reporter


def write_split(spec: str, overrides: Mapping[str, Any], out: Path) -> Split:
    """Writes a config's split, `index,file,label,split,group`, identical to a run's split.csv.

    Raises ConfigError if `out` exists with other content, DataError if the data cannot be split this way or
    the split leaks.
    """
    reporter = Reporter()
    config = resolve(spec, dict(overrides), reporter)
    with reporter.phase("data") as phase:
        source = sources.open_source(config.data, config_lib.data_root(config))
        split, group_ids = split_source(config, source)
        sizes = " / ".join(f"{len(part):,}" for part in split.parts().values())
        phase.text = f"{sources.TITLES[config.data.name]}, {split.name} split {sizes}"
    check_not_empty(split)
    data = Data(source, split, config, group_ids)
    report_leakage(data, measure_leakage(data), reporter)
    text = split.to_csv(source)
    if out.exists() and (not out.is_file() or out.read_bytes() != text.encode()):
        raise ConfigError(f"--out={out} exists with other content: give another file")
    require_folder(out.parent)
    atomic_write(out, text)
    reporter.line("saved", str(out))
    return split
