"""The table of layers: parameters and multiply-adds."""

import pytest

from jaxnets import config as config_lib
from jaxnets import models
from jaxnets.commands import summary
from jaxnets.errors import ConfigError

PER_IMAGE = {
    "resnet18": (224, 1000, 11_689_512, 1.814),
    "resnet34": (224, 1000, 21_797_672, 3.664),
    "resnet50": (224, 1000, 25_557_032, 4.089),
    "resnet101": (224, 1000, 44_549_160, 7.801),
    "resnet152": (224, 1000, 60_192_808, 11.514),
    "vgg16": (224, 1000, 138_357_544, 15.470),
    "vgg16_bn": (224, 1000, 138_365_992, 15.470),
    "nasnet_mobile": (224, 1000, 5_289_978, 0.564),
    "xception": (299, 1000, 22_855_952, 8.357),
    "inception_v1": (224, 1000, 6_624_904, 1.498),
    "inception_v3": (299, 1000, 23_834_568, 5.713),
    "inception_resnet_v2": (299, 1000, 55_843_464, 13.156),
    "densenet121": (224, 1000, 7_978_856, 2.603),
    "mobilenet_v2": (224, 1000, 3_504_872, 0.301),
    "efficientnet_b0": (224, 1000, 5_288_548, 0.386),
    "convnext_tiny": (224, 1000, 28_589_128, 4.456),
    "efficientnet_lite0": (224, 1000, 4_652_008, 0.385),
    "efficientnet_lite1": (240, 1000, 5_416_680, 0.600),
    "efficientnet_lite2": (260, 1000, 6_092_072, 0.860),
}
"""Image size, classes, parameters and billions of multiply-adds.

They were counted in PyTorch with forward hooks; DenseNet's less three quarters of its transitions' (2.834 in
all), as ours pool before they convolve. Those of NASNet are the paper's 564 million (table 3) and
Keras's parameters.
"""


@pytest.mark.parametrize(
    "name", [name if name == "resnet50" else pytest.param(name, marks=pytest.mark.slow) for name in PER_IMAGE]
)
def test_multiply_adds_match_pytorch(name: str) -> None:
    size, classes, parameters, expected = PER_IMAGE[name]
    model = config_lib.default_config().model
    model.name, model.num_classes = name, classes
    layers = summary.layers_of(model, (size, size, 3))
    main = [layer for layer in layers if not layer.path.startswith("auxiliary")]
    assert sum(layer.parameters for layer in main) == parameters
    assert round(sum(layer.multiply_adds for layer in main) / 1e9, 3) == expected


def test_table_of_lenet(capsys: pytest.CaptureFixture[str]) -> None:
    layers = summary.summarize("lenet5", num_classes=None, image_size=None)
    assert [layer.path for layer in layers] == [*("conv1", "conv2", "dense1", "dense2", "classifier")]
    assert [layer.multiply_adds for layer in layers] == [
        24 * 24 * 6 * 25,
        8 * 8 * 16 * 150,
        256 * 120,
        120 * 84,
        84 * 10,
    ]
    message = capsys.readouterr().out
    assert "parameters                    44,426" in message
    assert "LeNet-5, input 28x28x1, 10 classes" in message


@pytest.mark.parametrize("width", [40, 60, 99, 100, 200])
def test_table_fits_the_terminal(width: int) -> None:
    layers = [
        summary.Layer("dense_block4/layer16/norm1", "BatchNorm", (7, 7, 992), (7, 7, 992), 1984, 0, 0),
        summary.Layer("classifier", "Dense", (1024,), (1000,), 1_025_000, 0, 1_024_000),
    ]
    lines = summary.table(layers, width)
    assert len(lines) == 3
    assert ("input" in lines[0]) is (width >= summary.WIDE)
    if width > 50:
        assert max(map(len, lines)) <= width


def test_the_list_of_networks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    some = {name: models.REGISTRY[name] for name in ("resnet18", "mlp")}
    monkeypatch.setattr(models.REGISTRY, "data", some)
    summary.print_registry()
    heads, resnet, mlp, _, others = capsys.readouterr().out.splitlines()
    assert heads.split() == [
        "model.name",
        "parameters",
        *("multiply-adds", "pixels", "smallest"),
        *("ImageNet", "weights"),
    ]
    assert resnet.split() == [
        "resnet18",
        "11,689,512",
        "1,814,073,344",
        "224",
        "32",
        "hub:timm/resnet18.tv_in1k",
    ]
    assert mlp.split() == ["mlp", "41", "32"]
    assert others.startswith("docs/networks.md has papers")


def test_mlp_has_41_parameters() -> None:
    layers = summary.summarize("mlp", num_classes=None, image_size=None)
    assert sum(layer.parameters for layer in layers) == 41


def test_unknown_networks_and_too_small_images_raise() -> None:
    with pytest.raises(ConfigError, match="did you mean resnet50"):
        summary.summarize("resnet5", num_classes=None, image_size=None)
    with pytest.raises(ConfigError, match="75 pixels or more; --image_size=74"):
        summary.summarize("inception_v3", num_classes=None, image_size=74)
    with pytest.raises(ConfigError, match=r"--variant=kers: .* \(did you mean keras"):
        summary.summarize("resnet50", num_classes=None, image_size=None, variant="kers")
