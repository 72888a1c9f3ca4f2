"""Training of report A's MLP, a regression, end to end."""

import json
from pathlib import Path

import numpy as np
import pytest
from training_runs import SignalAfterStep, read_metrics

import jaxnets
from jaxnets import reported
from jaxnets.commands import evaluate, predict
from jaxnets.data.sources.points import Points
from jaxnets.errors import ConfigError, DataError, InterruptedRunError
from jaxnets.experiment import predictor
from jaxnets.experiment.resolve import load_config_or_demo as resolve
from jaxnets.experiment.restore import restore_state
from jaxnets.experiment.run_directory import open_run

QUIET = {"log.tensorboard": False}


@pytest.fixture(scope="module")
def mlp(repository: Path) -> str:
    """The config file."""
    return str(repository / "configs" / "mlp_tanh.py")


@pytest.fixture(scope="module")
def five_steps(mlp: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run with the default config; tests must not change it."""
    directory = tmp_path_factory.mktemp("runs") / "five"
    jaxnets.train(mlp, QUIET, workdir=directory)
    return directory


def _params(directory: Path) -> dict[str, np.ndarray]:
    """Parameters of the newest checkpoint by the report's names: W1 [neurons, inputs], b1, ..."""
    params = restore_state(open_run(directory)).state.params
    weights = {f"W{n}": np.asarray(params[f"layer{n}"]["kernel"]).T for n in (1, 2, 3)}
    return weights | {f"b{n}": np.asarray(params[f"layer{n}"]["bias"]) for n in (1, 2, 3)}


def test_one_training_step_matches_the_report(mlp: str, tmp_path: Path) -> None:
    jaxnets.train(mlp, {**QUIET, "train.steps": 1}, workdir=tmp_path / "run")
    found = _params(tmp_path / "run")
    printed = reported.document("mlp_tanh")
    by_engine = printed["micrograd"]["updated_parameters"]
    for each in by_engine:
        place = (each["neuron"], each["input"]) if each["kind"] == "weight" else each["neuron"]
        value = found[each["where"].split("[")[0]][place]
        assert value == pytest.approx(each["value"], abs=1e-6), each["where"]
    assert len(by_engine) == sum(values.size for values in found.values()) == 41
    for name, values in found.items():
        expected = printed["hand_updated"][name]["values"]
        np.testing.assert_allclose(values, expected, rtol=0, atol=1e-6)


def test_the_result_has_a_loss_and_no_accuracy(five_steps: Path) -> None:
    result = json.loads((five_steps / "result.json").read_text())
    unknown = (
        *("test_accuracy", "test_interval", "interval_method"),
        *("validation_accuracy", "train_accuracy", "image_size"),
    )
    assert {name: result[name] for name in unknown} == dict.fromkeys(unknown)
    assert (result["entry"], result["parameters"], result["epochs"]) == ("A/mlp_tanh", 41, 5)
    assert result["test_examples"] == result["tests"]["clean"]["examples"] == 4
    lines = read_metrics(five_steps)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
    assert lines[0]["values"]["loss"] == pytest.approx(5.312051880293906, abs=1e-5)
    for line in lines:
        assert set(line["values"]) == {"loss", "gradient_norm", "learning_rate"}


def test_the_output_has_no_accuracy(
    five_steps: Path, mlp: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jaxnets.train(mlp, {**QUIET, "train.steps": 1}, workdir=tmp_path / "run")
    message = capsys.readouterr().out
    assert "official split 4/0/4" in message
    assert "step 1/1  loss 5.3121  " in message
    assert "examples/s" in message
    jaxnets.train(mlp, QUIET, workdir=five_steps)  # prints the summary again
    message = capsys.readouterr().out
    assert "test loss      1.3303" in message
    assert "report A prints no loss after training" in message
    assert "four that it trained on" in message
    for absent in ("accuracy", " px", "images", "Traceback"):
        assert absent not in message


def test_training_is_deterministic(five_steps: Path, mlp: str, tmp_path: Path) -> None:
    jaxnets.train(mlp, {**QUIET, "data.threads": 1}, workdir=tmp_path / "again")
    assert read_metrics(tmp_path / "again") == read_metrics(five_steps)
    for name, values in _params(tmp_path / "again").items():
        np.testing.assert_array_equal(values, _params(five_steps)[name])


def test_resume_is_bit_exact(five_steps: Path, mlp: str, tmp_path: Path) -> None:
    with pytest.raises(InterruptedRunError, match="stopped at step 2"):
        jaxnets.train(mlp, QUIET, workdir=tmp_path / "run", callbacks=[SignalAfterStep(2)])
    jaxnets.train(mlp, QUIET, workdir=tmp_path / "run")
    assert read_metrics(tmp_path / "run") == read_metrics(five_steps)


@pytest.mark.usefixtures("optax_promotion")
def test_the_best_checkpoint_has_the_lowest_validation_loss(mlp: str, tmp_path: Path) -> None:
    watching = {
        **QUIET,
        "data.validation_fraction": 0.25,
        "train.batch_size": 3,
        "train.epochs": 2,
        "plateau.patience": 1,
        "early_stopping.patience": 50,
        "eval.use_best": True,
        "checkpoint.keep": 1,
    }
    result = jaxnets.train(mlp, watching, workdir=tmp_path / "run")
    checked = [line for line in read_metrics(tmp_path / "run") if line["split"] == "validation"]
    losses = [line["values"]["loss"] for line in checked]
    assert len(losses) == 2
    assert {name for line in checked for name in line["values"]} == {"loss"}
    assert result["step"] == 1 + int(np.argmin(losses))
    assert min(losses) < losses[-1]  # or the last one would do as well
    assert evaluate.evaluate(tmp_path / "run", part="validation")["loss"] == min(losses)


def test_evaluation_and_prediction_match_the_result(
    five_steps: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = evaluate.evaluate(five_steps)
    assert "(4 examples)" in capsys.readouterr().out
    loss = json.loads((five_steps / "result.json").read_text())["tests"]["clean"]["loss"]
    assert measured == {"split": "test", "step": 5, "loss": loss, "examples": 4}
    network = jaxnets.load(five_steps)
    assert isinstance(network, predictor.Regressor)
    points = list(Points())
    values = network.predict(np.stack([point["input"] for point in points]))
    assert values.shape == (4, 1)
    labels = np.stack([point["label"] for point in points])
    assert np.sum((values - labels) ** 2) == pytest.approx(loss, rel=1e-6)
    np.testing.assert_allclose(network.predict(points[2]["input"]), values[2], rtol=1e-6)
    with pytest.raises(DataError, match=r"inputs have shape \[4\], expected \[B, 3\] or \[3\]"):
        network.predict(np.zeros(4))
    with pytest.raises(ConfigError, match="takes vectors, not images"):
        predict.predict_files(str(five_steps), ["x.png"], csv_path=None, json_path=None)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"model.layer_sizes": (2, 4, 4, 1), "model.init": "torch"}, "begin with 3"),
        ({"model.layer_sizes": (3, 4, 4, 2), "model.init": "torch"}, "labels of length 1: end"),
        ({"model.layer_sizes": (3, 4, 1)}, "make 2 layers, but there are 3 activations"),
        ({"model.activations": ("tanh",)}, "make 3 layers, but there are 1 activations"),
        ({"model.layer_sizes": (3, 5, 4, 1)}, r"report A's \(3, 4, 4, 1\)"),
        ({"model.name": "lenet5"}, "LeNet-5 does not accept examples of kind 'vector'"),
        ({"data.name": "synthetic_tissue", "data.split": "random"}, "MLP does not accept .*'image'"),
        ({"train.loss": "cross_entropy"}, "needs classes, but points has real-valued targets"),
        ({"monitor.metric": "validation_accuracy"}, "there is no validation split"),
        ({"augment.flip_horizontal": True}, "data.name=points: choose data of images"),
        ({"model.num_classes": 2}, "data.name=points: choose data of images"),
    ],
)
def test_invalid_combinations_raise_and_write_nothing(
    mlp: str, tmp_path: Path, overrides: dict, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        jaxnets.train(mlp, {**QUIET, **overrides}, workdir=tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.parametrize(
    ("overrides", "entry"),
    [
        ({}, "A/mlp_tanh"),
        ({"model.dtype": "float64"}, "A/mlp_tanh"),
        ({"model.activations": ("tanh", "relu", "tanh")}, None),
        ({"model.layer_sizes": (3, 5, 4, 1), "model.init": "torch"}, None),
    ],
)
def test_another_network_has_no_reported_entry(mlp: str, overrides: dict, entry: str | None) -> None:
    assert resolve(mlp, overrides).entry == entry


def test_report_b_s_relu_variant_trains(repository: Path, tmp_path: Path) -> None:
    config = str(repository / "configs" / "mlp_relu.py")
    result = jaxnets.train(config, {**QUIET, "train.epochs": 40}, workdir=tmp_path / "run")
    assert result["entry"] == "B/mlp_relu"
    first = read_metrics(tmp_path / "run")[0]["values"]["loss"]
    assert result["tests"]["clean"]["loss"] < 0.1 * first
