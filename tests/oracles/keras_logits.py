"""Logits of a network of keras.applications in double precision; a process, as Keras's settings are global.

`python keras_logits.py NETWORK ARRAYS LOGITS [FILE]` takes an npz of weights, named "layer/weight", with
"inputs" [B, H, W, 3], and writes logits [B, classes] as npy. It saves the weights to FILE in Keras's format
(legacy HDF5 if FILE ends in model.h5). With "cotangent" [B, classes] in the npz, LOGITS is an npz of what
`training` returns. NETWORK is Keras's name, such as "ResNet50"; set `ENVIRONMENT`.
"""

import re
import sys
from typing import Any

import numpy as np

ENVIRONMENT = {"KERAS_BACKEND": "jax", "JAX_ENABLE_X64": "1", "JAX_PLATFORMS": "cpu"}
CLASSIFIERS = ("predictions/bias", "head_dense/bias")
OPTIONS = {"xla_backend_optimization_level": 0}
"""Compiles faster."""


def build(
    name: str, arrays: dict[str, np.ndarray], inputs: np.ndarray
) -> tuple[Any, dict[str, Any], np.ndarray]:
    """Returns Keras's network with these weights, its variables by name, and the inputs as it expects them.

    Raises ValueError if the names of the weights do not match.
    """
    import keras
    from keras.src.backend.common import dtypes

    keras.backend.set_floatx("float64")
    dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"  # Keras without TensorFlow would use float32
    if keras.src.backend.result_type("float64", "float64") != "float64":
        raise ValueError("Keras computes float64 in float32: its table of dtypes has moved")
    network = getattr(keras.applications, name)(
        weights=None,
        classes=next(bias.size for name, bias in arrays.items() if name.endswith(CLASSIFIERS)),
        classifier_activation=None,
        input_shape=inputs.shape[1:],
    )
    variables = {}
    for layer in network._flatten_layers(include_self=False):
        if layer.name.startswith("rescaling"):  # of EfficientNet, whose inputs are pixels from 0 to 255
            inputs = inputs / layer.scale
        if layer.name.endswith("prestem_normalization"):  # and of ConvNeXt
            inputs = inputs * np.sqrt(layer.input_variance) + layer.input_mean
        if layer.name != "normalization" and not hasattr(layer, "layers"):  # by 0 and 1; no nested networks
            # ConvNeXt's layer scale has a variable without a name.
            variables |= {f"{layer.name}/{re.sub('^variable.*', 'gamma', w.name)}": w for w in layer.weights}
    if set(variables) != set(arrays):
        raise ValueError(f"names in only one of both: {sorted(set(variables) ^ set(arrays))}")
    for name, variable in variables.items():
        variable.assign(arrays[name])
    return network, variables, inputs


def values_of(network: Any) -> list[list[Any]]:
    """Returns the values of the trainable variables and of the others."""
    return [[v.value for v in vs] for vs in (network.trainable_variables, network.non_trainable_variables)]


def logits(name: str, arrays: dict[str, np.ndarray], inputs: np.ndarray, file: str | None) -> np.ndarray:
    """Returns the logits in inference."""
    import jax

    network, _, inputs = build(name, arrays, inputs)
    if file is not None:
        network.save(file) if file.endswith("model.h5") else network.save_weights(file)

    def call(values: list, x: jax.Array) -> jax.Array:
        return network.stateless_call(*values, x, training=False)[0]

    return np.asarray(jax.jit(call, compiler_options=OPTIONS)(values_of(network), inputs))


def training(
    name: str, arrays: dict[str, np.ndarray], inputs: np.ndarray, cotangent: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns the training mode's "logits", the gradient of vdot(logits, cotangent) and the batch statistics.

    Gradients and statistics have the names of the variables; variances are biased.
    """
    import jax

    network, variables, inputs = build(name, arrays, inputs)
    names = {id(variable): name for name, variable in variables.items()}
    trainable, others = values_of(network)

    def loss(trainable: list) -> Any:
        y, updated = network.stateless_call(trainable, others, inputs, training=True)
        return (y * cotangent).sum(), (y, updated)

    computed = jax.jit(jax.value_and_grad(loss, has_aux=True), compiler_options=OPTIONS)(trainable)
    (_, (y, updated)), gradient = computed
    found = {"logits": np.asarray(y)}
    for variable, value in zip(network.trainable_variables, gradient, strict=True):
        found[names[id(variable)]] = np.asarray(value)
    momentum = {layer.name: layer.momentum for layer in network.layers if hasattr(layer, "momentum")}
    for variable, old, new in zip(network.non_trainable_variables, others, updated, strict=True):
        layer = names[id(variable)].partition("/")[0]
        found[names[id(variable)]] = np.asarray(new - momentum[layer] * old) / (1 - momentum[layer])
    return found


if __name__ == "__main__":
    network, arrays, out, *file = sys.argv[1:]
    given = dict(np.load(arrays))
    images = given.pop("inputs")
    if "cotangent" in given:
        np.savez(out, **training(network, given, images, given.pop("cotangent")))
    else:
        np.save(out, logits(network, given, images, file[0] if file else None))
