"""What keras.applications calls the layers of our networks, a file for each network that it has too.

A name is "layer/weight". Where Keras numbers layers, the numbers count from the network's own first one.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from jaxnets.interop.keras_names import densenet, inception_resnet_v2, inception_v3, resnet

BY_NETWORK: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {
        "resnet50": resnet.layer_name,
        "inception_v3": inception_v3.layer_name,
        "inception_resnet_v2": inception_resnet_v2.layer_name,
        "densenet121": densenet.layer_name,
    }
)
"""From a module's path ("stage1_block2/conv1") to its layer's name, by the network's name."""

WITHOUT_SCALE = ("inception_v3", "inception_resnet_v2")
"""Networks whose batch normalisation has no gamma in Keras."""
