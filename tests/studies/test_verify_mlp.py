"""verify_mlp: the reports' printed values, PyTorch's page, the errata, the ReLU variant, and failures."""

import dataclasses
import json
import math
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from benchmarks import mlp_torch
from jaxnets.errors import CheckFailedError, ConfigError
from studies import verify_mlp
from studies.mlp_proof import agreement, picture
from studies.mlp_proof.case import read_case
from studies.mlp_proof.check import Check
from studies.mlp_proof.implementations import BY_HAND, GRAD32, GRAD64, PYTORCH, SCALAR
from studies.pages import mlp_by_hand
from studies.verify_mlp import Options, Proof, verify


@pytest.fixture(scope="module")
def proof() -> Proof:
    """Computes the proof without PyTorch."""
    return verify_mlp.prove()


@pytest.fixture
def captured(
    proof: Proof, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> pytest.CaptureFixture[str]:
    """Captures the output of `verify`, which uses the computed proof."""
    monkeypatch.setattr(verify_mlp, "prove", lambda oracle: proof)
    return capsys


def test_every_check_passes(proof: Proof) -> None:
    assert [str(check) for check in proof.checks() if not check.holds] == []
    assert list(proof.results) == [BY_HAND, SCALAR, GRAD64, GRAD32]


def test_all_149_printed_values_are_within_rounding(proof: Proof) -> None:
    values = 0
    for table in proof.case.tables:
        for result in (proof.results[BY_HAND], proof.results[SCALAR]):
            assert table.count_mismatches(result.tables[table.name]) == 0, table.name
        values += table.values.size
    assert values == 149
    assert {table.half_unit for table in proof.case.tables} == {5e-4, 5e-9}


def test_parameters_match_the_scalar_engine_of_the_report(proof: Proof) -> None:
    assert proof.case.engine_parameters.shape == (41,)
    for name in (BY_HAND, SCALAR, GRAD64):
        result = proof.results[name]
        np.testing.assert_allclose(result.updated, proof.case.engine_parameters, rtol=0, atol=1e-12)
        np.testing.assert_allclose(result.predictions, proof.case.engine_predictions, rtol=0, atol=1e-12)


def test_float32_training_code_matches_float64(proof: Proof) -> None:
    single, double = proof.results[GRAD32], proof.results[GRAD64]
    np.testing.assert_allclose(single.updated, double.updated, rtol=0, atol=1e-6)
    assert not np.array_equal(single.updated, double.updated)


class TestPytorchPage:
    def test_only_column_biases_reproduce_the_page(self, proof: Proof) -> None:
        total, mean, with_columns = proof.disagreement.interpretations
        assert total.loss == pytest.approx(5.312051880293906, abs=1e-12)
        assert mean.loss == pytest.approx(1.3280129700734762, abs=1e-12)
        assert with_columns.loss == pytest.approx(1.1816822549806867, abs=1e-12)
        assert (total.matching, mean.matching, with_columns.matching) == (0, 0, 41)

    def test_our_code_rejects_column_biases(self, proof: Proof) -> None:
        assert proof.disagreement.error == (
            "b1 has shape (4, 1), but W1 (4, 3) needs (4,): a column would broadcast along the batch"
        )


def test_errata_are_evaluated(proof: Proof) -> None:
    differences = [erratum.difference for erratum in proof.errata.formulas]
    assert differences[:2] == [None, None]
    assert differences[2:6] == pytest.approx([1.18, 0.0, 0.26, 0.31], abs=5e-3)
    rounded = proof.errata.rounded
    assert (rounded.values, rounded.off, rounded.forward_off) == (149, 108, 31)
    assert rounded.forward_largest == pytest.approx(2.0e-3, rel=1e-2)
    assert rounded.backward_largest == pytest.approx(3.3e-3, rel=1e-2)


class TestReluVariant:
    def test_first_row_of_dw1_is_impossible(self, proof: Proof) -> None:
        found = proof.relu_variant
        assert found.impossible == (0,)
        assert abs(found.delta_1[0]) == pytest.approx(0.67, abs=1e-3)
        assert found.bound == pytest.approx(0.3855, abs=2e-3)
        assert found.delta_3 == pytest.approx(-0.695373, abs=1e-6)

    def test_thousand_random_networks_agree(self, proof: Proof) -> None:
        draws = proof.relu_variant.draws
        assert draws.count == 1000
        assert max(draws.max_difference, draws.delta_3, draws.rows) < 1e-12
        assert 0.5 < draws.bound_ratio <= 1.0


class TestFailures:
    def _with_a_wrong_digit(self, proof: Proof) -> Proof:
        z1, *others = proof.case.tables
        values = z1.values.copy()
        values[0, 0] += 1e-3
        case = dataclasses.replace(proof.case, tables=(dataclasses.replace(z1, values=values), *others))
        return dataclasses.replace(proof, agreement=agreement.compare(case, proof.results))

    def test_wrong_digit_fails_with_the_name_of_its_table(
        self, proof: Proof, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(verify_mlp, "prove", lambda oracle: self._with_a_wrong_digit(proof))
        with pytest.raises(CheckFailedError, match=r"1 of \d+ checks failed: z1 as") as caught:
            verify(Options(), None)
        assert caught.value.exit_code == 7

    def test_nan_fails(self, proof: Proof) -> None:
        assert not Check("a difference", math.nan, 1.0).holds
        scalar = proof.results[SCALAR]
        tables = {**scalar.tables, "z1": np.full_like(scalar.tables["z1"], np.nan)}
        broken = dataclasses.replace(scalar, tables=tables)
        found = agreement.compare(proof.case, {**proof.results, SCALAR: broken})
        failed = {check.name for check in found.checks() if not check.holds}
        assert failed == {
            "z1 as printed",
            "z1 of Xs1 alone as printed",
            "float64 implementations against each other",
        }


class TestOutput:
    def test_output_fits_100_columns(self, captured: pytest.CaptureFixture[str]) -> None:
        verify(Options(), None)
        lines = captured.readouterr().out.splitlines()
        assert max(map(len, lines)) <= 100
        assert len(lines) < 60
        assert "PyTorch is not installed" in "\n".join(lines)
        assert lines[-1].startswith("all ")

    def test_every_value_and_errata(self, captured: pytest.CaptureFixture[str]) -> None:
        verify(Options(every_value=True, errata=True), None)
        out = captured.readouterr().out
        assert sum(line.startswith(("W", "b")) and "'[" in line for line in out.splitlines()) >= 41
        assert "runs, off by 1.18" in out
        assert "108 of 149" in out
        assert max(map(len, out.splitlines())) <= 100

    def test_json_has_everything(self, captured: pytest.CaptureFixture[str]) -> None:
        verify(Options(as_json=True), None)
        read = json.loads(captured.readouterr().out)
        assert all(check["holds"] for check in read["checks"])
        assert read["pytorch"] is None
        assert len(read["ways"][GRAD64]["updated"]) == len(read["parameter_names"]) == 41
        assert read["slips"]["rounded"]["off"] == 108


class TestFigures:
    def test_figures_are_written_and_match_the_pages(
        self, captured: pytest.CaptureFixture[str], tmp_path: Path, repository: Path
    ) -> None:
        folder = tmp_path / "a" / "b"
        verify(Options(plot=folder), None)
        assert sorted(path.name for path in folder.iterdir()) == [picture.LOSS, picture.NETWORK]
        out = captured.readouterr().out
        for path in folder.iterdir():
            assert str(path) in out
            with Image.open(path) as image:
                assert min(image.size) > 300
                assert len(image.convert("RGB").getcolors(10_000) or []) > 10
                digest = image.info[picture.DIGEST]
            with Image.open(repository / "docs" / path.name) as shown:
                assert shown.info[picture.DIGEST] == digest, "run scripts/verify_mlp.py --plot=docs"
            assert path.stat().st_size < 150_000

    def test_loss_decreases(self) -> None:
        with jax.enable_x64(True):
            losses = picture.first_losses(read_case(), steps=20)
        first = [values[0] for values in losses.values()]
        assert first == pytest.approx([1.32801297, 1.32801297, 1.18168225], abs=1e-8)
        assert all(values[-1] < 0.1 for values in losses.values())

    def test_missing_matplotlib_names_the_install_command(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(picture.importlib.util, "find_spec", lambda name: None)
        with pytest.raises(ConfigError, match=r"pip install -e '\.\[plots\]'"):
            verify(Options(plot=tmp_path), None)

    def test_plot_folder_that_is_a_file_raises(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(ConfigError, match="is a file: name a folder"):
            verify(Options(plot=tmp_path / "file"), None)


def test_torch_reference_is_none_without_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlp_torch, "has_torch", lambda: False)
    assert mlp_torch.oracle() is None


@pytest.mark.oracle
class TestPyTorch:
    def test_pytorch_matches_the_other_implementations(self) -> None:
        pytest.importorskip("torch")
        proof = verify_mlp.prove(mlp_torch.oracle())
        assert [str(check) for check in proof.checks() if not check.holds] == []
        result = proof.results[PYTORCH]
        np.testing.assert_allclose(result.updated, proof.case.engine_parameters, rtol=0, atol=1e-12)
        found = proof.disagreement.pytorch
        assert found is not None
        assert found["loss"] == pytest.approx(1.1816822549806867, abs=1e-12)
        assert found["loss_float32"] == pytest.approx(1.1816822290420532, abs=3e-7)


class TestPages:
    """docs/mlp_by_hand.md and its Spanish translation."""

    def test_pages_are_up_to_date(self, proof: Proof, repository: Path) -> None:
        pages = mlp_by_hand.pages(proof)
        assert sorted(pages) == ["mlp_by_hand.es.md", "mlp_by_hand.md"]
        number = re.compile(r"\d+[.,]\d+")
        for name, text in pages.items():
            stored = (repository / "docs" / name).read_text()
            assert number.sub("#", text) == number.sub("#", stored), "run python -m studies.pages.mlp_by_hand"
            for now, before in zip(number.findall(text), number.findall(stored), strict=True):
                # The last digit may be rounded differently on another machine.
                unit = 10.0 ** -len(re.split("[.,]", before)[1])
                now, before = (float(each.replace(",", ".")) for each in (now, before))
                assert now == pytest.approx(before, abs=1.01 * unit), name

    def test_templates_contain_no_numbers(self, proof: Proof) -> None:
        number = re.compile(r"(?<!\w)(\d+[.,]\d+|\d{2,})")
        used = []
        for page in mlp_by_hand.PAGES:
            template = (mlp_by_hand.TEMPLATES / page).read_text()
            used.append(set(mlp_by_hand.PLACEHOLDER.findall(template)))
            assert number.findall(mlp_by_hand.PLACEHOLDER.sub("", template)) == [], page
        assert used[0] == used[1]
