"""The page that classifies pictures in a browser: its files, its text, and the runtime that it needs."""

import dataclasses
import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import onnx
import pytest

from jaxnets.commands import export as exporting
from jaxnets.commands import model_card, web
from jaxnets.data import sources
from jaxnets.errors import CheckpointError, ConfigError
from jaxnets.experiment.restore import read_weights_or_run

RUNTIME = {"runtime": b"export const env = {};", "wasm": b"\0asm"}


@pytest.fixture(autouse=True)
def _runtime(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "real_runtime" not in request.keywords:
        monkeypatch.setattr(web, "runtime_files", lambda: RUNTIME)


def _settings(page: str) -> dict[str, Any]:
    return json.loads(page.partition('id="settings">')[2].partition("</script>")[0])


def test_a_small_model_is_part_of_the_page(
    calibrated: Path, tmp_path: Path, read_page, capsys: pytest.CaptureFixture[str]
) -> None:
    out = exporting.export(calibrated, tmp_path / "out", file_format="web")
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "index.html", "model.onnx"]
    page, result = (out / "index.html").read_text(), json.loads((calibrated / "result.json").read_text())
    assert all(f'id="{name}"' in page for name in ("model", "runtime", "wasm"))
    settings, parsed = _settings(page), read_page(page)
    assert (settings["size"], settings["channels"], settings["calibrated"]) == (16, 3, True)
    assert settings["classes"] == json.loads((calibrated / "manifest.json").read_text())["classes"]
    assert f"{100 * result['test_accuracy']:.2f} %" in parsed.words
    assert sources.DISCLAIMER not in parsed.words  # synthetic images
    assert all(address.startswith("data:") for address in parsed.addresses)
    assert "opens in a browser" in capsys.readouterr().out


def test_a_large_model_lies_beside_the_page(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = exporting.export(trained, tmp_path / "out", file_format="web")
    monkeypatch.setattr(web, "MAX_EMBEDDED", 10)
    exporting.export(trained, out, file_format="web")
    assert (out / web.FILES["wasm"]).read_bytes() == RUNTIME["wasm"]
    assert 'id="model"' not in (out / "index.html").read_text()
    assert _settings((out / "index.html").read_text())["files"] == {"model": "model.onnx", **web.FILES}
    assert "python -m http.server" in capsys.readouterr().out


def test_maps_need_a_global_average_and_a_large_feature_map(trained: Path, tmp_path: Path) -> None:
    out = exporting.export(trained, tmp_path / "out", file_format="web")
    names = [output.name for output in onnx.load(out / "model.onnx").graph.output]
    assert names == ["probabilities"]
    assert "has no heat map" in _settings((out / "index.html").read_text())["no_map"]


def test_warnings_stand_on_the_page(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_page
) -> None:
    monkeypatch.setattr(sources, "MEDICAL", {"synthetic_tissue"})
    copy = tmp_path / "run"
    shutil.copytree(trained, copy)
    result = json.loads((copy / "result.json").read_text())
    result["leakage"]["test"] = 0.25
    (copy / "result.json").write_text(json.dumps(result))
    out = exporting.export(copy, tmp_path / "out", file_format="web", ignore_damage=True)
    words = read_page((out / "index.html").read_text()).words
    assert "For research, not for diagnosis." in words
    assert "LEAKY: 25.0 % of the test images have a near-duplicate in training." in words


def test_class_names_cannot_end_the_script(trained: Path) -> None:
    weights = dataclasses.replace(read_weights_or_run(trained), classes=("</script><b>", "b", "c"))
    assert weights.preprocessing is not None
    card = model_card.describe(weights, weights.preprocessing, None, has_logits=False)
    card = dataclasses.replace(card, title="<b>title", facts={"data": "<i>"}, limits=["<u>"])
    page = web.page_files(b"model", RUNTIME, card, no_map="")["index.html"].decode()
    assert _settings(page)["classes"] == ["</script><b>", "b", "c"]
    for tag in ("</script><b>", "<b>title", "<i>", "<u>"):
        assert tag not in page


@pytest.mark.real_runtime
def test_another_package_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / f"{web.PACKAGE}-{web.VERSION}.tgz", "w:gz") as archive:
        for file in web.FILES.values():
            member = tarfile.TarInfo(f"package/dist/{file}")
            archive.addfile(member, io.BytesIO())
    with pytest.raises(CheckpointError, match=r"is not onnxruntime-web 1\.30\.0: remove it"):
        web.runtime_files(tmp_path)


@pytest.mark.real_runtime
def test_a_missing_npm_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs onnxruntime-web@1\.30\.0, .*install npm"):
        web.runtime_files(tmp_path)


@pytest.mark.real_runtime
def test_a_failed_download_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm = tmp_path / "npm"
    name = f"{web.PACKAGE}-{web.VERSION}.tgz"
    npm.write_text(f"#!/bin/sh\necho half > {name}\necho no network >&2\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(npm))
    with pytest.raises(ConfigError, match=r"npm cannot download .* \(no network\)"):
        web.runtime_files(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []  # no part of a package is taken for one


@pytest.mark.real_runtime
def test_a_download_is_moved_to_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm, name = tmp_path / "npm", f"{web.PACKAGE}-{web.VERSION}.tgz"
    npm.write_text(f"#!/bin/sh\necho another > {name}\n")
    npm.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(npm))
    with pytest.raises(CheckpointError, match="is not onnxruntime-web"):
        web.runtime_files(tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [name]
