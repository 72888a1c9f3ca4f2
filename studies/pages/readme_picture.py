"""README's picture: accuracy under both splits beside a report page.

    python -m studies.pages.readme_picture RUN/report/index.html

Needs matplotlib and Chromium. The page is a real one, of which the sections in `SHOWN` are photographed.
"""

import io
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops

from jaxnets.errors import ConfigError, MachineError
from studies.pages import curves, leak_table

PICTURE = Path("docs") / "report_and_leakage.png"
CHROMIUM = "chromium"
SHOWN = ("Confusion matrix", "Most confident mistakes")
"""Sections of the report page, after its title and main numbers."""
MISTAKES, SCALE, PAGE_SIZE = 3, 1.25, (860, 1600)
GAP, COLORS = 24, 112
HIDE = """<script>
let shown = true, shownSections = %s;
for (const element of document.body.children) {
  if (element.tagName == "H2") shown = shownSections.includes(element.textContent);
  if (!shown) element.style.display = "none";
}
document.querySelectorAll(".card").forEach((card, i) => { if (i >= %d) card.remove(); });
</script>"""


def screenshot(page: Path) -> Image.Image:
    """Returns a photograph of the report page without the other sections.

    Raises MachineError if there is no Chromium.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy, photograph = Path(folder) / "page.html", Path(folder) / "page.png"
        copy.write_text(page.read_text() + HIDE % (list(SHOWN), MISTAKES))
        width, height = PAGE_SIZE
        options = ("--headless", "--no-sandbox", "--hide-scrollbars", f"--force-device-scale-factor={SCALE}")
        command = [CHROMIUM, *options, f"--window-size={width},{height}", f"--screenshot={photograph}"]
        try:
            subprocess.run([*command, copy.as_uri()], check=True, capture_output=True, timeout=120)
        except (OSError, subprocess.SubprocessError) as error:
            raise MachineError(f"{CHROMIUM} takes the photograph of the page, and failed: {error}") from error
        return _without_margin(Image.open(photograph).convert("RGB"))


def chart(results: Path, size: tuple[int, int]) -> Image.Image:
    """Returns README's table as a chart of `size` pixels."""
    shown = leak_table.short_pairs(results)
    figure = curves.new_figure((size[0] / 144, size[1] / 144))
    axes = figure.subplots()
    for y, pair in enumerate(shown):
        for group, colour, mark in ((pair.random, "#b8480b", "o"), (pair.grouped, "#1f5fa8", "s")):
            assert group is not None
            percent, (low, high) = leak_table.mean_and_interval(group)
            errors: Any = [[percent - low], [high - percent]]
            axes.errorbar(percent, y, xerr=errors, fmt=mark, color=colour, markersize=8, capsize=4)
    axes.plot([], [], "o", color="#b8480b", label="random split: copies in training and test")
    axes.plot([], [], "s", color="#1f5fa8", label="grouped split: no copies in both")
    axes.set_yticks(range(len(shown)), [pair.title.replace(", ", "\n", 1) for pair in shown])
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlabel("test accuracy, %, with 95 % intervals")
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper left", frameon=False, title="LC25000 lung", alignment="left")
    drawing = io.BytesIO()
    figure.savefig(drawing, format="png", dpi=144)
    return Image.open(drawing).convert("RGB").resize(size)


def compose(left: Image.Image, right: Image.Image) -> Image.Image:
    """Returns both pictures side by side, the right one in a frame."""
    height = max(left.height, right.height) + 2 * GAP
    whole = Image.new("RGB", (left.width + right.width + 4 * GAP, height), "white")
    whole.paste(left, (GAP, GAP))
    x = left.width + 3 * GAP
    frame = (x - 9, GAP - 9, x + right.width + 9, GAP + right.height + 9)
    whole.paste("#c4ccd6", frame)
    whole.paste("white", tuple(each + step for each, step in zip(frame, (2, 2, -2, -2), strict=True)))
    whole.paste(right, (x, GAP))
    return whole


def _without_margin(picture: Image.Image) -> Image.Image:
    """Returns the picture without the white rows below its last content."""
    box = ImageChops.difference(picture, Image.new("RGB", picture.size, "white")).getbbox()
    return picture.crop((0, 0, picture.width, box[3] + GAP if box else picture.height))


def main(page: Path) -> None:
    """Writes the picture; raises ConfigError if there is no report page."""
    if not page.is_file():
        raise ConfigError(
            f"{page} not found: python scripts/evaluate.py --workdir RUN writes RUN/report/index.html"
        )
    right = screenshot(page)
    left = chart(Path("results"), (round(0.7 * right.width), right.height))
    compose(left, right).quantize(COLORS).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
