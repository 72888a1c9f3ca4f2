"""Malformed, damaged and malicious weight files raise a one-line error without running code or hanging."""

import importlib.util
import json
import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import safetensors.numpy

from benchmarks.oracles import has_torch
from jaxnets import config as config_lib
from jaxnets.commands import import_weights
from jaxnets.errors import CheckpointError, ConfigError, JaxnetsError, MachineError
from jaxnets.interop import convert, weight_files
from jaxnets.interop.foreign import Options
from jaxnets.interop.weights import Weights, structure, unflatten

TERA = 1 << 40
F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def _lenet() -> dict[str, np.ndarray]:
    """Returns a LeNet-5 state dict of zeros."""
    model = config_lib.default_config().model
    model.name, model.num_classes, model.auxiliary_heads = "lenet5", 10, False
    shape = (28, 28, 1)
    arrays = {path: np.zeros(leaf.shape, "f4") for path, leaf in structure(model, shape).items()}
    return convert.to_layout("torch", Weights(unflatten(arrays), model, shape))


def _safetensors(header: Any, data: bytes = b"", *, length: int | None = None) -> bytes:
    """Returns a safetensors file with an arbitrary header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def _tensor(data: bytes = b"\0" * 8, **changes: Any) -> bytes:
    return _safetensors({"conv1.weight": F32 | changes}, data)


def _of_dtype(dtype: str, size: int) -> bytes:
    return _tensor(b"\0" * 2 * size, dtype=dtype, data_offsets=[0, 2 * size])


def _named(name: str) -> bytes:
    return _safetensors({name: F32}, b"\0" * 8)


def _with(name: str, value: float) -> bytes:
    arrays = _lenet()
    arrays[name] = np.full_like(arrays[name], value)
    return safetensors.numpy.save(arrays)


SAFETENSORS: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "four bytes": lambda: b"\0" * 4,
    "text": lambda: b"these are not weights\n" * 9,
    "header of 2^62 bytes": lambda: _safetensors({"a": F32}, b"\0" * 8, length=2**62),
    "header longer than the file": lambda: _safetensors({"a": F32}, b"", length=5000),
    "header that is not JSON": lambda: _safetensors(b"{{{{"),
    "header that is a list": lambda: _safetensors([1, 2]),
    "header that is null": lambda: _safetensors(None),
    "header nested 100,000 deep": lambda: _safetensors(b"[" * 100_000),
    "header that is not UTF-8": lambda: _safetensors(b'{"\xff": 1}'),
    "no tensors": lambda: _safetensors({}),
    "offsets beyond the file": lambda: _tensor(data_offsets=[0, 800], shape=[200]),
    "offsets of 4 TB": lambda: _tensor(data_offsets=[0, 4 * TERA], shape=[TERA]),
    "offsets backwards": lambda: _tensor(data_offsets=[8, 0]),
    "offsets below zero": lambda: _tensor(data_offsets=[-8, 0]),
    "overlapping tensors": lambda: _safetensors({"a": F32, "b": F32}, b"\0" * 8),
    "a hole between tensors": lambda: _safetensors(
        {"a": F32, "b": F32 | {"data_offsets": [16, 24]}}, b"\0" * 24
    ),
    "bytes behind the end": lambda: _tensor(b"\0" * 80),
    "a shape that overflows": lambda: _tensor(shape=[2**62, 4, 4]),
    "a shape below zero": lambda: _tensor(shape=[-2]),
    "a shape of text": lambda: _tensor(shape="2"),
    "a shape of 100,000 axes": lambda: _tensor(b"\0" * 4, shape=[1] * 100_000, data_offsets=[0, 4]),
    "an unknown type": lambda: _tensor(dtype="F33"),
    "float8 e4m3": lambda: _of_dtype("F8_E4M3", 1),
    "float8 e5m2": lambda: _of_dtype("F8_E5M2", 1),
    "float8 e8m0": lambda: _of_dtype("F8_E8M0", 1),
    "complex": lambda: _of_dtype("C64", 8),
    "booleans": lambda: _of_dtype("BOOL", 1),
    "a name with parent folders": lambda: _named("../../../../etc/passwd"),
    "an absolute name": lambda: _named("/etc/passwd"),
    "a name with control characters": lambda: _named("conv1\x1b[2J\x07\n.weight\u202e"),
    "a name with NUL": lambda: _named("conv1\0.weight"),
    "an empty name": lambda: _named(""),
    "a name of a megabyte": lambda: _named("x" * 1_000_000),
    "metadata that is not text": lambda: _safetensors({"__metadata__": {"a": [1]}, "a": F32}, b"\0" * 8),
    "weights that are NaN": lambda: _with("conv1.weight", np.nan),
    "weights that are infinite": lambda: _with("fc3.bias", np.inf),
}


def _h5(fill: Callable[[h5py.File], None]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with h5py.File(path, "w") as file:
            fill(file)

    return write


def _cycle(file: h5py.File) -> None:
    file["a/b"] = np.zeros(2, "f4")
    file["a/cycle"] = file["a"]


def _external_data(file: h5py.File) -> None:
    file.create_dataset("conv/conv/kernel", (4,), "f4", external=[("/etc/passwd", 0, 16)])


def _virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (4,))
    file.create_virtual_dataset("conv/conv/kernel", layout)


def _declares_4_tb(file: h5py.File) -> None:
    file.create_dataset("conv/conv/kernel", (TERA,), "f4", chunks=(1024,))


def _declares_4_tb_compressed(file: h5py.File) -> None:
    found = file.create_dataset("c/c/kernel", (TERA,), "f4", chunks=(1024,), compression="gzip")
    found[:1024] = 0


def _set(path: str, value: Any) -> Callable[[Path], None]:
    return _h5(lambda file: file.__setitem__(path, value))


H5: dict[str, Callable[[Path], None]] = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("not weights\n"),
    "signature alone": lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n"),
    "signature and noise": lambda path: path.write_bytes(
        b"\x89HDF\r\n\x1a\n" + np.random.default_rng(0).bytes(4000)
    ),
    "no groups": _h5(lambda file: None),
    "a link to another file": _set("conv", h5py.ExternalLink("/etc/passwd", "/")),
    "a soft link": _set("conv", h5py.SoftLink("/nowhere")),
    "a cycle of groups": _h5(_cycle),
    "data in another file": _h5(_external_data),
    "virtual data": _h5(_virtual),
    "4 TB": _h5(_declares_4_tb),
    "4 TB, compressed": _h5(_declares_4_tb_compressed),
    "a name with control characters": _set("c\x1b[2J/c\x07/kernel\n", np.zeros(2, "f4")),
    "text instead of weights": _set("conv/conv/kernel", "text"),
    "Keras 3 without names": _set("layers/conv2d/vars/0", np.zeros((1, 1, 1, 1), "f4")),
    "Keras 3, seven axes": _set("layers/conv2d/vars/0", np.zeros((1,) * 7, "f4")),
    "NaN": _set("conv2d/conv2d/kernel", np.full((5, 5, 1, 6), np.nan, "f4")),
    "layers in another file": _set("layers", h5py.ExternalLink("/etc/passwd", "/")),
    "model_weights by a link": _set("model_weights", h5py.SoftLink("/nowhere")),
    "layers that are not a group": _set("layers", np.zeros(3, "f4")),
    "model_weights that is not a group": _set("model_weights", np.zeros(3, "f4")),
}


class _RunsCode:
    def __init__(self, target: Path):
        self._command = f"touch '{target}'"

    def __reduce__(self) -> Any:
        return os.system, (self._command,)


def _pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps(_RunsCode(path.parent / "touched")))


def _saved(make: Callable[[Any], Any]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        import torch

        torch.save(make(torch), path)

    return write


def _truncated(path: Path) -> None:
    _saved(lambda torch: {"a": torch.zeros(1000)})(path)
    path.write_bytes(path.read_bytes()[:700])


TORCH: dict[str, Callable[[Path], None]] = {
    "a pickle that runs code": _pickled,
    "text": lambda path: path.write_text("not weights\n"),
    "empty": lambda path: path.write_bytes(b""),
    "a zip of something else": lambda path: path.write_bytes(b"PK\x03\x04" + b"\0" * 100),
}
WITH_TORCH: dict[str, Callable[[Path], None]] = {
    "a file that runs code": lambda path: _saved(lambda torch: _RunsCode(path.parent / "touched"))(path),
    "truncated": _truncated,
    "float8": _saved(lambda torch: {"a": torch.zeros(2).to(torch.float8_e4m3fn)}),
    "sparse": _saved(lambda torch: {"a": torch.eye(2).to_sparse()}),
    "on no device": _saved(lambda torch: {"a": torch.zeros(2, device="meta")}),
    "4 TB of one number": _saved(lambda torch: {"conv1.weight": torch.zeros(1).expand(TERA)}),
    "no tensors": _saved(lambda torch: {"epoch": 3}),
    "names that are numbers": _saved(lambda torch: {1: torch.zeros(2), 2: torch.zeros(2)}),
}


def _fifo(path: Path) -> None:
    os.mkfifo(path)


PATHS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "a folder": ("x.safetensors", Path.mkdir),
    "a FIFO": ("x.safetensors", _fifo),
    "a FIFO, h5": ("x.h5", _fifo),
    "a device": ("x.safetensors", lambda path: path.symlink_to("/dev/zero")),
    "a link to itself": ("x.safetensors", lambda path: path.symlink_to(path.name)),
    "a link to nowhere": ("x.safetensors", lambda path: path.symlink_to("nowhere")),
    "nothing": ("x.safetensors", lambda path: None),
    "another suffix": ("x.ckpt", lambda path: path.write_text("?")),
    "a name with control characters": ("\x1b[2J\x07\n.ckpt", lambda path: path.write_text("?")),
}


def _hostile_files(folder: Path) -> dict[str, Path]:
    """Writes every malformed file into its own folder and returns the paths by kind of damage."""
    files: dict[str, tuple[str, Callable[[Path], None]]] = {}
    for name, content in SAFETENSORS.items():
        files[f"safetensors: {name}"] = "x.safetensors", _writer(content)
    files |= {f"h5: {name}": ("x.h5", write) for name, write in H5.items()}
    torch = TORCH | (WITH_TORCH if has_torch() else {})
    files |= {f"pth: {name}": ("x.pth", write) for name, write in torch.items()}
    files |= {f"path: {name}": found for name, found in PATHS.items()}
    paths = {}
    for number, (name, (file, write)) in enumerate(files.items()):
        (folder / str(number)).mkdir()
        paths[name] = folder / str(number) / file
        write(paths[name])
    return paths


def _writer(content: Callable[[], bytes]) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content()) and None


@pytest.mark.filterwarnings("ignore")  # PyTorch warns about old pickles and types
def test_every_hostile_file_raises(tmp_path: Path) -> None:
    paths = _hostile_files(tmp_path)
    assert len(paths) >= 50
    wrong = []
    for name, path in paths.items():
        try:
            import_weights.import_weights(str(path), tmp_path / "new", Options())
            wrong.append(f"{name}: accepted")
        except (CheckpointError, ConfigError) as error:
            if not str(error).strip():
                wrong.append(f"{name}: no message")
        except (JaxnetsError, Exception) as error:
            wrong.append(f"{name}: {type(error).__name__}: {error}")
    assert not wrong
    assert not list(tmp_path.rglob("touched"))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2"])
def test_float8_raises_with_tensor_and_dtype(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(_of_dtype(dtype, 1))
    with pytest.raises(CheckpointError, match=rf"conv1\.weight is {dtype}, .*: save .* float32"):
        weight_files.read_safetensors(path)


@pytest.mark.parametrize("write", [_declares_4_tb, _declares_4_tb_compressed])
def test_declared_size_larger_than_the_file_raises(
    tmp_path: Path, write: Callable[[h5py.File], None]
) -> None:
    path = tmp_path / "x.h5"
    _h5(write)(path)
    with pytest.raises(CheckpointError, match=r"x\.h5: /.* declares 4,398,046,511,104 bytes, and"):
        weight_files.read_keras(path)


def test_compressed_weights_are_read(tmp_path: Path) -> None:
    path, values = tmp_path / "x.h5", np.zeros((3, 3, 64, 64), "f4")
    with h5py.File(path, "w") as file:
        file.create_dataset("conv2d/conv2d/kernel", data=values, compression="gzip")
        file["conv2d/conv2d/bias"] = np.zeros(0, "f4")
    assert weight_files.read_keras(path)["conv2d/kernel"].shape == values.shape


def test_out_of_memory_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.h5"
    _set("conv2d/conv2d/kernel", np.zeros(3, "f4"))(path)

    def full(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(h5py.Dataset, "__getitem__", full)
    with pytest.raises(MachineError, match=r"x\.h5: .* needs 12 bytes of memory"):
        weight_files.read_keras(path)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_script_prints_one_line_for_every_hostile_file(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = _hostile_files(tmp_path)

    def run(path: Path) -> tuple[int | None, str]:
        command = [sys.executable, "scripts/import_weights.py", str(path), str(tmp_path / "new")]
        try:
            done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=120)
        except subprocess.TimeoutExpired:
            return None, ""
        return done.returncode, done.stderr

    with ThreadPoolExecutor(2) as pool:
        results = dict(zip(paths, pool.map(run, paths.values()), strict=True))
    hangs = [name for name, (code, _) in results.items() if code is None]
    tracebacks = [name for name, (_, errors) in results.items() if "Traceback" in errors]
    others = {
        name: found
        for name, found in results.items()
        if found[0] not in (2, 4) or found[1].count("\n") != 1 or "\x1b" in found[1]
    }
    with capsys.disabled():
        print(f"\n{len(results)} files: {len(tracebacks)} tracebacks, {len(hangs)} hangs, {others}")
    assert not hangs
    assert not tracebacks
    assert not others
    assert not list(tmp_path.rglob("touched"))
    assert not (tmp_path / "new").exists()


def test_keras_files_need_h5py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="Keras files need h5py: pip install h5py"):
        weight_files.read_keras(tmp_path / "weights.h5")
