"""keras.applications' ResNet-50 in double precision, in a process of its own: Keras's settings are global.

As a program: `keras_resnet.py ARRAYS LOGITS` takes an npz of weights, named "layer/weight", with "inputs"
[B, H, W, 3], and writes logits [B, classes] as npy. Its environment is `ENVIRONMENT`.
"""

import re
import sys

import numpy as np

ENVIRONMENT = {"KERAS_BACKEND": "jax", "JAX_ENABLE_X64": "1", "JAX_PLATFORMS": "cpu"}
LEAVES = {"scale": "gamma", "bias": "beta", "mean": "moving_mean", "var": "moving_variance"}


def keras_name(path: str) -> str:
    """The "layer/weight" of our array at `path` ("stage1_block2/conv3/kernel")."""
    module, _, leaf = path.rpartition("/")
    if module == "classifier":
        return f"predictions/{leaf}"
    block = re.fullmatch(r"stage(\d+)_block(\d+)/(\w+)", module)
    prefix, name = "conv1", module
    if block is not None:
        stage, number, name = block.groups()
        place = "0" if name.startswith("projection") else name[-1]
        prefix = f"conv{int(stage) + 1}_block{number}_{place}"
    if "norm" in name:
        return f"{prefix}_bn/{LEAVES[leaf]}"
    return f"{prefix}_conv/{leaf}"


def logits(arrays: dict[str, np.ndarray], inputs: np.ndarray) -> np.ndarray:
    """Of the network with these weights, in inference. Raises ValueError unless the names are its own."""
    import jax
    import keras
    from keras.src.backend.common import dtypes

    keras.backend.set_floatx("float64")
    dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"  # without TensorFlow float32 is computed
    if keras.src.backend.result_type("float64", "float64") != "float64":
        raise ValueError("Keras computes float64 in float32: its table of dtypes has moved")
    network = keras.applications.ResNet50(
        weights=None,
        classes=arrays["predictions/bias"].size,
        classifier_activation=None,
        input_shape=inputs.shape[1:],
    )
    places = {f"{layer.name}/{w.name}": w for layer in network.layers for w in layer.weights}
    if set(places) != set(arrays):
        raise ValueError(f"one side alone has {sorted(set(places) ^ set(arrays))}")
    for name, variable in places.items():
        variable.assign(arrays[name])
    values = [
        [v.value for v in vs]
        for vs in (network.trainable_variables, network.non_trainable_variables)
    ]

    def call(values: list, x: jax.Array) -> jax.Array:
        return network.stateless_call(*values, x, training=False)[0]

    options = {"xla_backend_optimization_level": 0}  # compiles sooner
    return np.asarray(jax.jit(call, compiler_options=options)(values, inputs))


if __name__ == "__main__":
    given = dict(np.load(sys.argv[1]))
    images = given.pop("inputs")
    np.save(sys.argv[2], logits(given, images))
