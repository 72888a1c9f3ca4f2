"""Files of PyTorch's two formats: tensors are read, and nothing else."""

import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from benchmarks.oracles import has_torch
from jaxnets.errors import CheckpointError
from jaxnets.interop import pth, weight_files


class Global:
    """Is pickled as a name, such as torch.FloatStorage."""

    def __init__(self, module: str, name: str):
        self.module, self.name = module, name

    def __call__(self) -> None:
        """Makes it a callable for pickle."""


class Call:
    """Is pickled as a call of a `Global`."""

    def __init__(self, function: Global, *arguments: Any):
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> Any:
        return self.function, self.arguments


class Storage:
    """Is pickled as a persistent id."""

    def __init__(self, key: str, count: int, kind: str = "FloatStorage", view: Any = None):
        self.id = ("storage", Global("torch", kind), key, "cpu", count, view)


class Writer(pickle._Pickler):  # the one in Python, whose methods can be replaced
    """Writes the classes above."""

    dispatch: ClassVar[dict[Any, Any]] = dict(pickle._Pickler.dispatch)

    def persistent_id(self, obj: Any) -> Any:
        return obj.id if isinstance(obj, Storage) else None

    def save_named(self, obj: Global) -> None:
        self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())

    dispatch[Global] = save_named


REBUILD = Global("torch._utils", "_rebuild_tensor_v2")


def tensor(storage: Storage, offset: int, sizes: tuple[int, ...], strides: tuple[int, ...]) -> Call:
    return Call(REBUILD, storage, offset, sizes, strides, False, OrderedDict())


def write(
    path: Path, tensors: Any, storages: dict[str, np.ndarray], *, system: Any = None, protocol: int = 1001
) -> None:
    stream = io.BytesIO(pth.MAGIC)
    stream.seek(0, io.SEEK_END)
    system = {"little_endian": True} if system is None else system
    for each in (protocol, system, tensors, list(storages)):
        Writer(stream, protocol=2).dump(each)
    for values in storages.values():
        stream.write(struct.pack("<q", values.size) + values.tobytes())
    path.write_bytes(stream.getvalue())


VALUES = np.arange(12, dtype=np.float32)


def test_tensors_are_views_of_storages(tmp_path: Path) -> None:
    path, shared, counter = tmp_path / "x.pth", Storage("7", 12), Storage("8", 1, "LongStorage")
    tensors = OrderedDict(
        whole=tensor(shared, 0, (3, 4), (4, 1)),
        transposed=tensor(shared, 0, (4, 3), (1, 4)),
        part=tensor(shared, 5, (2, 2), (4, 1)),
        parameter=Call(Global("torch._utils", "_rebuild_parameter"), tensor(shared, 2, (3,), (2,)), True, {}),
        counter=tensor(counter, 0, (), ()),
        empty=tensor(shared, 0, (0, 4), (4, 1)),
    )
    write(path, tensors, {"7": VALUES, "8": np.array([3])})
    found = weight_files.open_file(str(path), print).arrays
    assert list(found) == list(tensors)
    np.testing.assert_array_equal(found["whole"], VALUES.reshape(3, 4))
    np.testing.assert_array_equal(found["transposed"], VALUES.reshape(3, 4).T)
    np.testing.assert_array_equal(found["part"], [[5, 6], [9, 10]])
    np.testing.assert_array_equal(found["parameter"], [2, 4, 6])
    assert (found["counter"].dtype, int(found["counter"])) == (np.int64, 3)
    assert found["empty"].shape == (0, 4)


def _one(call: Any) -> Callable[[Path], None]:
    return lambda path: write(path, OrderedDict(a=call), {"7": VALUES})


def _run(path: Path) -> Call:
    return Call(Global("os", "system"), f"touch '{path.parent / 'touched'}'")


DAMAGED: dict[str, Callable[[Path], None]] = {
    "runs code": lambda path: write(path, OrderedDict(a=_run(path)), {}),
    "runs code in the description": lambda path: write(path, OrderedDict(), {}, system=_run(path)),
    "evaluates": lambda path: write(path, Call(Global("builtins", "eval"), "1"), {}),
    "a class of PyTorch": lambda path: write(path, Call(Global("torch.nn", "Linear"), 2, 2), {}),
    "sets attributes": lambda path: write(path, OrderedDict(a=Call(Global("builtins", "setattr"))), {}),
    "a number": _one(3),
    "no dict": lambda path: write(path, [1, 2], {}),
    "another protocol": lambda path: write(path, OrderedDict(), {}, protocol=1002),
    "another byte order": lambda path: write(path, OrderedDict(), {}, system={"little_endian": False}),
    "beyond the storage": _one(tensor(Storage("7", 12), 1, (3, 4), (4, 1))),
    "before the storage": _one(tensor(Storage("7", 12), -1, (3,), (1,))),
    "negative strides": _one(tensor(Storage("7", 12), 11, (3,), (-1,))),
    "4 TB of one number": _one(tensor(Storage("7", 12), 0, (1 << 42,), (0,))),
    "more sizes than strides": _one(tensor(Storage("7", 12), 0, (3, 4), (1,))),
    "another size": _one(tensor(Storage("7", 11), 0, (3,), (1,))),
    "a negative size": _one(tensor(Storage("7", -12), 0, (3,), (1,))),
    "a view of a storage": _one(tensor(Storage("7", 12, view=("8", 0, 1)), 0, (3,), (1,))),
    "an unknown object": _one(tensor(Storage("7", 12, "Generator"), 0, (3,), (1,))),
    "a huge tensor that a negative one would hide": lambda path: write(
        path,
        OrderedDict(
            a=tensor(Storage("7", 12), 0, (1 << 42,), (0,)), b=tensor(Storage("7", 12), 0, (-1 << 42,), (0,))
        ),
        {"7": VALUES},
    ),
    "a missing storage": _one(tensor(Storage("9", 12), 0, (3,), (1,))),
    "no storage": _one(tensor("7", 0, (3,), (1,))),  # type: ignore[arg-type]
    "only the magic number": lambda path: path.write_bytes(pth.MAGIC) and None,
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_and_hostile_files_raise(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    DAMAGED[name](path)
    with pytest.raises(CheckpointError, match=r"x\.pth (is not|holds)"):
        weight_files.open_file(str(path), print)
    assert os.listdir(tmp_path) == ["x.pth"]


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (tensor(Storage("7", 12, "ComplexFloatStorage"), 0, (3,), (1,)), "torch.ComplexFloatStorage"),
        (
            Call(Global("torch._utils", "_rebuild_sparse_tensor"), 0, ()),
            "torch._utils._rebuild_sparse_tensor",
        ),
    ],
)
def test_tensors_of_other_kinds_are_named(call: Call, name: str, tmp_path: Path) -> None:
    _one(call)(tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=rf"is not read \({name}\): save all as dense float32"):
        pth.read(tmp_path / "x.pth")


def test_counters_and_sizes_may_lie_beside_a_state_dict(tmp_path: Path) -> None:
    state = OrderedDict(a=tensor(Storage("7", 12), 0, (12,), (1,)))
    others = {
        "milestones": Call(Global("collections", "Counter"), {30: 1}),
        "size": Call(Global("torch", "Size"), (3, 4)),
    }
    write(tmp_path / "x.pth", {"model": state, **others}, {"7": VALUES})
    np.testing.assert_array_equal(pth.read(tmp_path / "x.pth")["a"], VALUES)


def test_many_copies_of_a_storage_raise(tmp_path: Path) -> None:
    path, values = tmp_path / "x.pth", np.zeros(10_000, np.float32)
    for copies in (3, 50):
        shared = Storage("7", values.size)
        tensors = OrderedDict(
            (str(number), tensor(shared, 0, values.shape, (1,))) for number in range(copies)
        )
        write(path, tensors, {"7": values})
        if copies == 3:
            assert len(pth.read(path)) == 3
            continue
        with pytest.raises(CheckpointError, match=r"tensors of 2,000,000 bytes .* share a storage"):
            pth.read(path)


def test_truncated_files_raise(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    _one(tensor(Storage("7", 12), 0, (3, 4), (4, 1)))(path)
    whole = path.read_bytes()
    for length in range(len(pth.MAGIC), len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="not a valid PyTorch file"):
            pth.read(path)


@pytest.mark.oracle
@pytest.mark.skipif(not has_torch(), reason="needs PyTorch")
def test_files_of_pytorch_are_read(tmp_path: Path) -> None:
    import torch

    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).half()
    half = torch.arange(5).to(torch.bfloat16)
    tensors = {**network.state_dict(), "t": torch.arange(6).reshape(2, 3).T, "b": torch.tensor([True])}
    for is_zip in (True, False):
        torch.save(OrderedDict(tensors, half=half), tmp_path / "x.pth", _use_new_zipfile_serialization=is_zip)
        torch.save(network.state_dict(), tmp_path / "y.pth", _use_new_zipfile_serialization=is_zip)
        found = pth.read(tmp_path / "x.pth")
        assert found["half"].astype(np.float32).tolist() == [0, 1, 2, 3, 4]
        assert pth.read(tmp_path / "y.pth").keys() == network.state_dict().keys()
        assert found.keys() == {*tensors, "half"}
        for name, expected in tensors.items():
            assert found[name].dtype == expected.numpy().dtype
            np.testing.assert_array_equal(found[name], expected.numpy())


@pytest.mark.oracle
@pytest.mark.skipif(not has_torch(), reason="needs PyTorch")
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")  # deprecated
@pytest.mark.parametrize("layout", ["sparse", "quantized", "float8"])
def test_other_tensors_are_refused(tmp_path: Path, layout: str) -> None:
    import torch

    dense = torch.ones(2, 2)
    tensor = {
        "sparse": dense.to_sparse,
        "quantized": lambda: torch.quantize_per_tensor(dense, 0.1, 0, torch.quint8),
        "float8": lambda: dense.to(torch.float8_e4m3fn),
    }[layout]()
    torch.save({"a": tensor}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="holds tensors of a kind that is not read"):
        pth.read(tmp_path / "x.pth")


class TestZip:
    """Files of the new format that PyTorch would not write."""

    @staticmethod
    def write(
        path: Path, *, data: bytes, deflated: str = "", order: str = "little", padding: int = 0
    ) -> None:
        stream, storage = io.BytesIO(), Storage("0", VALUES.size)
        storage.id = storage.id[:-1]
        Writer(stream, protocol=2).dump(OrderedDict(a=tensor(storage, 0, (3, 4), (4, 1))))
        members = {"data.pkl": stream.getvalue() + bytes(padding), "byteorder": order, "data/0": data}
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                kind = zipfile.ZIP_DEFLATED if name == deflated else zipfile.ZIP_STORED
                archive.writestr(f"archive/{name}", content, kind)

    def test_tensors_are_read(self, tmp_path: Path) -> None:
        self.write(tmp_path / "x.pth", data=VALUES.tobytes())
        np.testing.assert_array_equal(pth.read(tmp_path / "x.pth")["a"], VALUES.reshape(3, 4))

    @pytest.mark.parametrize(
        "options",
        [
            {"data": VALUES.tobytes()[:-1]},
            {"data": VALUES.tobytes() + b"\0"},
            {"data": VALUES.tobytes(), "order": "big"},
            {"data": bytes(4 * VALUES.size), "deflated": "data/0"},
            {"data": bytes(4 * VALUES.size), "deflated": "data.pkl"},
            {"data": bytes(4 * VALUES.size), "deflated": "byteorder"},
            {"data": bytes(4 * VALUES.size), "padding": pth.MAX_PICKLE},
        ],
    )
    def test_damaged_files_raise(self, tmp_path: Path, options: dict[str, Any]) -> None:
        self.write(tmp_path / "x.pth", **options)
        with pytest.raises(CheckpointError, match="not a valid PyTorch file"):
            pth.read(tmp_path / "x.pth")

    def test_an_archive_without_a_state_dict_raises(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
            archive.writestr("readme.txt", "")
        with pytest.raises(CheckpointError, match="not a valid PyTorch file"):
            pth.read(tmp_path / "x.pth")
