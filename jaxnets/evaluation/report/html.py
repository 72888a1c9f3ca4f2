"""Templates and pictures of HTML pages that need no other files."""

import base64
import functools
import io
from typing import Any

import jinja2
import numpy as np
from PIL import Image


@functools.cache
def environment() -> jinja2.Environment:
    """The templates of this package, with the filters `percent` and `count`."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("jaxnets.evaluation.report"),
        autoescape=True,  # class and file names are user input
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"percent": percent, "count": "{:,}".format}
    return found


def percent(value: float | None, digits: int = 1) -> str:
    """A fraction as a percentage; a dash for None."""
    return "\N{EN DASH}" if value is None else f"{100 * value:.{digits}f} %"


def data_uri(pixels: np.ndarray, kind: str, **options: Any) -> str:
    """uint8[H, W, 1 or 3] as the data URI of a picture."""
    data = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(data, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode()}"
