"""The config fields of the network."""

from collections.abc import Mapping

from jaxnets.config import conditions as when
from jaxnets.config.field import Field, choice, field, optional

MODEL_FIELDS: Mapping[str, Field] = {
    "model.name": field("", "a name of jaxnets.models"),
    "model.num_classes": field(0, "number of classes; 0: as in the data", ge=0, used=when.IMAGES),
    "model.init": choice(
        "torch",
        ("torch", "flax", "published"),
        "initialisation: as in PyTorch, Flax's defaults, or (mlp) report A's 41 weights",
    ),
    "model.variant": optional(
        str,
        "architecture variant; None: the first named. alexnet: pool3 (report C), pool2 (report E); "
        "inception_v1: torchvision, paper (with its 5x5 branch); resnet50, 101, 152: torchvision, keras "
        "(biases, and the stride in the first 1x1); inception_v3: torchvision, keras (average pooling "
        "excludes padding); densenet121: torchvision, keras (another epsilon); mobilenet_v2, "
        "efficientnet_b0: torchvision, keras (asymmetric padding, another epsilon); xception: keras, timm "
        "(symmetric padding, another epsilon)",
        used=when.one_of(
            "model.name",
            *("alexnet", "resnet50", "resnet101", "resnet152", "inception_v1", "inception_v3"),
            *("densenet121", "xception", "mobilenet_v2", "efficientnet_b0"),
        ),
    ),
    "model.auxiliary_heads": field(
        True, "train the auxiliary heads", used=when.one_of("model.name", "inception_v1", "inception_v3")
    ),
    "model.auxiliary_dropout": field(
        0.7,
        "dropout rate in the auxiliary heads",
        ge=0.0,
        le=0.99,
        used=when.all_of(
            when.INCEPTION_V1, when.AUXILIARY_LOSS, description="inception_v1 trains its auxiliary heads"
        ),
    ),
    "model.truncate_after": optional(
        str, "last block of the backbone, e.g. mixed7a; None: mixed7c, the last", used=when.INCEPTION_V3
    ),
    "model.stage_sizes": field((3, 4, 6, 3), "blocks per stage", ge=1, used=when.RESNET),
    "model.width": field(64, "channels of the first stage", ge=1, used=when.RESNET),
    "model.layer_sizes": field((3, 4, 4, 1), "inputs, neurons of each layer, outputs", ge=1, used=when.MLP),
    "model.activations": choice(
        ("tanh", "tanh", "tanh"),
        ("tanh", "relu", "leaky_relu", "sigmoid", "identity"),
        "activation of each layer",
        used=when.MLP,
    ),
    "model.activation": choice(
        "relu", ("relu", "leaky_relu", "sigmoid", "tanh"), "activation function", used=when.LENET_OR_ALEXNET
    ),
    "model.pooling": choice(
        "max", ("max", "average"), "pooling after convolutions", used=when.LENET_OR_ALEXNET
    ),
    "model.kernel_size": field(5, "kernel size of both convolutions", ge=1, le=7, used=when.LENET),
    "model.dropout": field(0.0, "dropout rate before the classifier", ge=0.0, le=0.99, used=when.IMAGES),
    "model.stochastic_depth": field(
        0.0,
        "probability that training leaves the last residual block out; it grows with the depth",
        ge=0.0,
        le=0.99,
        used=when.STOCHASTIC_DEPTH,
    ),
    "model.dtype": choice("float32", ("float32", "float64"), "dtype of parameters, statistics and loss"),
    "model.compute_dtype": optional(
        str,
        "dtype of computation; None: model.dtype; bfloat16 is faster on GPUs and on CPUs with AVX512-BF16",
    ),
    "model.implementation": choice(
        "auto",
        ("auto", "xla"),
        "implementation of convolution, pooling and batch norm; xla: required for jvp",
        used=when.IMAGES,
    ),
    "model.sync_batch_norm": field(
        True,
        "compute batch statistics over all devices; False: per device, which is faster (docs/scale.md)",
        used=when.BATCH_NORM,
    ),
}
