"""The job of dividing a data set without training on it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxnets import config as recipes
from jaxnets.data.sources import registry
from jaxnets.data.splits import Split
from jaxnets.errors import ConfigError
from jaxnets.experiment.data import Data, divide, require_examples, resolve
from jaxnets.experiment.leakage import measure_leak, tell_leak
from jaxnets.io import require_folder, write_whole
from jaxnets.runtime.console import Screen


def write_split(spec: str, overrides: Mapping[str, Any], out: Path) -> Split:
    """Writes the split of a recipe, `index,file,label,split,group`, the same as a run's split.csv.

    The folder of `out` is made. Raises ConfigError where `out` holds something else, DataError where the
    data cannot be so divided or the split leaks.
    """
    screen = Screen()
    config = resolve(spec, dict(overrides), screen)
    with screen.phase("data") as phase:
        source = registry.open_source(config.data, recipes.data_root(config))
        split, siblings = divide(config, source)
        sizes = " / ".join(f"{len(part):,}" for part in split.parts().values())
        phase.text = f"{registry.TITLES[config.data.name]}, {split.name} split {sizes}"
    require_examples(split)
    data = Data(source, split, config, siblings)
    tell_leak(data, measure_leak(data), screen)
    text = split.to_csv(source)
    if out.exists() and (not out.is_file() or out.read_bytes() != text.encode()):
        raise ConfigError(f"--out={out} is there and holds something else: name another file")
    require_folder(out.parent)
    write_whole(out, text)
    screen.line("saved", str(out))
    return split
