"""The network of inverted residual blocks, compared with the same one in PyTorch."""

from collections.abc import Iterator

import pytest

from benchmarks import depthwise, jax_workloads
from benchmarks.measure import LOSS_TOLERANCE, check_outputs_match
from jaxnets import models

pytestmark = pytest.mark.oracle
SHAPE = {"network": depthwise.NAME, "image_size": 32, "batch_size": 4}


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    """Removes the network from the registry, which other tests iterate."""
    yield
    models.REGISTRY.pop(depthwise.NAME, None)


def test_it_has_the_same_logits_and_losses_as_in_pytorch() -> None:
    pytest.importorskip("torch")
    from benchmarks import torch_workloads

    ours = jax_workloads.InferenceWorkload(None, **SHAPE)
    theirs = torch_workloads.InferenceWorkload(ours.shared_data(), channels_last=True, threads=1)
    check_outputs_match("inference", "PyTorch", ours.outputs(), theirs.outputs())
    check_outputs_match("inference", "PyTorch", ours.measured_outputs(), theirs.measured_outputs())

    ours = jax_workloads.TrainingWorkload(None, **SHAPE)
    theirs = torch_workloads.TrainingWorkload(ours.shared_data(), channels_last=True, threads=1)
    losses, lr_fraction = ours.losses()
    check_outputs_match("training", "PyTorch", losses, theirs.losses(lr_fraction)[0], LOSS_TOLERANCE)
