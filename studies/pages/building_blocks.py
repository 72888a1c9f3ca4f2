"""Updates the numbers and pictures of docs/building_blocks.md.

python -m studies.pages.building_blocks

The page is written by hand except its blocks of numbers, each after a line `<!-- numbers: NAME -->`. The
data of the pictures are in docs/building_blocks/numbers.json, and each picture contains their digest.
"""

import argparse
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import jax

from jaxnets.io import atomic_write
from studies.mlp_proof.picture import save
from studies.pages import building_blocks_numbers as numbers
from studies.pages import building_blocks_pictures as pictures

PAGE = Path(__file__).parents[2] / "docs" / "building_blocks.md"
FOLDER = PAGE.with_suffix("")
BLOCK = re.compile(r"(?P<head><!-- numbers: (?P<name>\w+) -->\n```\n)(?P<text>(?:(?!```).*\n)*)```\n")


def blocks(page: str) -> dict[str, str]:
    """Returns the page's blocks of numbers by name."""
    return {found["name"]: found["text"].removesuffix("\n") for found in BLOCK.finditer(page)}


def with_numbers(page: str) -> str:
    """Returns the page with every block recomputed."""
    return BLOCK.sub(lambda found: f"{found['head']}{numbers.BLOCKS[found['name']]()}\n```\n", page)


def behind() -> dict[str, Any]:
    """Returns the data of every picture, as stored in numbers.json."""
    return {name: pictures.plain(compute()) for name, (compute, _) in pictures.PICTURES.items()}


def digest(found: Any) -> str:
    """Returns the digest of a picture's data."""
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()


def main() -> None:
    """Writes the page, the data and the pictures."""
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0]).parse_args()
    jax.config.update("jax_enable_x64", True)
    atomic_write(PAGE, with_numbers(PAGE.read_text()))
    found = behind()
    FOLDER.mkdir(exist_ok=True)
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(data)}" for name, data in found.items())
    atomic_write(FOLDER / "numbers.json", f"{{\n{lines}\n}}\n")
    for name, (_, draw) in pictures.PICTURES.items():
        save(draw(found[name]), FOLDER / f"{name}.png", digest(found[name]))


if __name__ == "__main__":
    main()
