"""Makes the numbers and pictures of docs/building_blocks.md.

python -m studies.pages.building_blocks

The page is written by hand but for its blocks of numbers, each after a line `<!-- numbers: NAME -->`. The
numbers behind the pictures go to docs/building_blocks/numbers.json, whose digests stand in the pictures.
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
    """The page's blocks of numbers, by name."""
    return {found["name"]: found["text"].removesuffix("\n") for found in BLOCK.finditer(page)}


def with_numbers(page: str) -> str:
    """The page with every block computed again."""
    return BLOCK.sub(lambda found: f"{found['head']}{numbers.BLOCKS[found['name']]()}\n```\n", page)


def behind() -> dict[str, Any]:
    """The numbers behind every picture, as numbers.json holds them."""
    return {name: pictures.plain(compute()) for name, (compute, _) in pictures.PICTURES.items()}


def digest(found: Any) -> str:
    """A digest of the numbers that a picture was drawn from."""
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()


def main() -> None:
    """Computes all, and writes what changed."""
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
