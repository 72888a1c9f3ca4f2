"""Every network as an ONNX file, in ONNX Runtime and OpenVINO."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn_networks import NETWORKS, draw_network

from jaxnets import models
from jaxnets.interop.onnx import to_onnx

pytestmark = [
    pytest.mark.oracle,
    pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning"),  # OpenVINO's telemetry forks
]


@pytest.mark.parametrize("name", NETWORKS)
def test_engines_give_the_logits_of_the_network(name: str, tmp_path: Path) -> None:
    """Within 1e-5 of the largest logit, or twice the error of the network itself in float32."""
    onnxruntime, openvino = pytest.importorskip("onnxruntime"), pytest.importorskip("openvino")
    model, variables, images = draw_network(name)
    model = model.clone(implementation="xla")
    plain = np.asarray(model.apply(variables, images, train=False))
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), (variables, images))
        exact = np.asarray(model.clone(dtype=jnp.float64).apply(*wide, train=False))
    folded = jax.jit(lambda v: models.fold_batch_norm(model, v, images[:1]))(variables)

    def logits(images: jax.Array) -> tuple[Any]:
        return (model.apply(folded, images, train=False),)

    spec = jax.ShapeDtypeStruct(images.shape[1:], np.float32)
    path = tmp_path / "model.onnx"
    path.write_bytes(to_onnx(logits, spec, input_name="images", output_names=["logits"], metadata={}))
    session = onnxruntime.InferenceSession(path)
    compiled = openvino.compile_model(path, config={"INFERENCE_PRECISION_HINT": "f32"})
    largest = np.abs(exact).max()
    allowed = max(1e-5, 2 * np.abs(plain - exact).max() / largest)
    for count in (1, len(images)):
        for found in (session.run(None, {"images": images[:count]})[0], compiled(images[:count])[0]):
            assert found.shape == (count, 3)
            assert np.abs(found - exact[:count]).max() / largest <= allowed


def test_every_network_is_drawn() -> None:
    """Deeper networks of a family have the operations of its shallower ones."""
    families = {models.entry(name.partition("/")[0]).factory for name in NETWORKS}
    images = [entry for entry in map(models.entry, models.REGISTRY) if entry.kind == "image"]
    assert {entry.factory for entry in images} == families
