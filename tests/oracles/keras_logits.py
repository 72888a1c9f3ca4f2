"""Logits of a network of keras.applications in double precision; a process, as Keras's settings are global.

`python keras_logits.py NETWORK ARRAYS LOGITS [FILE]` takes an npz of weights, named "layer/weight", with
"inputs" [B, H, W, 3], and writes logits [B, classes] as npy. It saves the weights to FILE in Keras's format
(legacy HDF5 if FILE ends in model.h5). NETWORK is Keras's name, such as "ResNet50"; set `ENVIRONMENT`.
"""

import sys

import numpy as np

ENVIRONMENT = {"KERAS_BACKEND": "jax", "JAX_ENABLE_X64": "1", "JAX_PLATFORMS": "cpu"}


def logits(name: str, arrays: dict[str, np.ndarray], inputs: np.ndarray, file: str | None) -> np.ndarray:
    """Returns the logits in inference; raises ValueError if the names of the weights do not match."""
    import jax
    import keras
    from keras.src.backend.common import dtypes

    keras.backend.set_floatx("float64")
    dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"  # Keras without TensorFlow would use float32
    if keras.src.backend.result_type("float64", "float64") != "float64":
        raise ValueError("Keras computes float64 in float32: its table of dtypes has moved")
    network = getattr(keras.applications, name)(
        weights=None,
        classes=arrays["predictions/bias"].size,
        classifier_activation=None,
        input_shape=inputs.shape[1:],
    )
    for layer in network.layers:
        if layer.name.startswith("rescaling"):  # of EfficientNet, whose inputs are pixels from 0 to 255
            inputs = inputs / layer.scale
    layers = [layer for layer in network.layers if layer.name != "normalization"]  # by 0 and 1
    variables = {f"{layer.name}/{w.name}": w for layer in layers for w in layer.weights}
    if set(variables) != set(arrays):
        raise ValueError(f"names in only one of both: {sorted(set(variables) ^ set(arrays))}")
    for name, variable in variables.items():
        variable.assign(arrays[name])
    if file is not None:
        network.save(file) if file.endswith("model.h5") else network.save_weights(file)
    values = [[v.value for v in vs] for vs in (network.trainable_variables, network.non_trainable_variables)]

    def call(values: list, x: jax.Array) -> jax.Array:
        return network.stateless_call(*values, x, training=False)[0]

    options = {"xla_backend_optimization_level": 0}  # compiles faster
    return np.asarray(jax.jit(call, compiler_options=options)(values, inputs))


if __name__ == "__main__":
    network, arrays, out, *file = sys.argv[1:]
    given = dict(np.load(arrays))
    images = given.pop("inputs")
    np.save(out, logits(network, given, images, file[0] if file else None))
