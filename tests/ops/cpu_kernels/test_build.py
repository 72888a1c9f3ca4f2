"""Building and loading the kernels, and their errors."""

import re
import shutil
import subprocess
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from jaxnets.errors import MachineError
from jaxnets.ops import convolution, cpu_kernels, max_pool
from jaxnets.ops.cpu_kernels import Kernels, build
from jaxnets.ops.normalization import batch_norm

ONE_BY_ONE = {"window": (1, 1), "strides": (1, 1)}


def test_library_path_depends_on_the_ffi_and_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = build.library_path(tmp_path)
    assert "-ffi{}.{}-".format(*build.ffi_version()) in path.name
    monkeypatch.setattr(build, "FLAGS", (*build.FLAGS, "-g"))
    assert build.library_path(tmp_path) != path


@pytest.mark.parametrize(
    ("built", "found"),
    [
        ((), None),
        (((0, 3),), (0, 3)),
        (((0, 4), (0, 5)), (0, 5)),
        (((0, 3), (0, 4), (0, 6), (1, 5)), (0, 4)),  # 0.6 is later, and 1.5 another interface
        (((0, 6), (1, 3)), None),
    ],
)
def test_a_library_serves_later_versions_of_the_ffi(
    built: tuple[tuple[int, int], ...],
    found: tuple[int, int] | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paths = {}
    for version in built:
        monkeypatch.setattr(build, "ffi_version", lambda version=version: version)
        paths[version] = build.library_path(tmp_path)
        paths[version].write_text("")
    monkeypatch.setattr(build, "ffi_version", lambda: (0, 5))
    assert build.find(tmp_path) == (None if found is None else paths[found])


def test_ffi_version_is_that_of_the_functions(built: Path) -> None:
    """XLA itself refuses a function of a later version, so these may not differ."""
    text = (Path(jax.ffi.include_dir()) / "xla/ffi/api/c_api.h").read_text()
    major, minor = build.ffi_version()
    assert f"#define XLA_FFI_API_MAJOR {major}\n" in text
    assert f"#define XLA_FFI_API_MINOR {minor}\n" in text
    assert f"{major}.{minor}\0".encode() in build.library_path(built).read_bytes()


def test_variants_export_only_their_table(built: Path) -> None:
    """If two objects defined a function, the linker would use one, perhaps with the wrong instructions."""
    for variant in build.variants():
        path = built / "objects" / f"{variant.table}.o"
        command = ["nm", "-C", "--extern-only", "--defined-only", str(path)]
        symbols = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert [line.split()[-1] for line in symbols.splitlines()] == [f"jaxnets::{variant.table}"]


def test_kernels_match_the_instruction_sets_of_the_cpu(kernels: tuple[Kernels, ...]) -> None:
    assert [each.instructions for each in kernels[:2]] == ["emulated AMX", "portable"]
    assert cpu_kernels.in_use() is None  # loaded, but not enabled
    info = Path("/proc/cpuinfo")
    if info.is_file() and "avx2" in (flags := info.read_text()):
        expected = (
            "AMX"
            if "amx_bf16" in flags
            else "AVX-512 BF16"
            if "avx512_bf16" in flags
            else "AVX-512"
            if "avx512bw" in flags
            else "AVX2"
        )
        assert kernels[-1].instructions == expected


def test_missing_library_raises(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="cannot be loaded .* builds it again"):
        cpu_kernels.enable(build.library_path(tmp_path))
    assert cpu_kernels.in_use() is None


def test_missing_compiler_raises(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"no C\+\+ compiler \(none-such\)"):
        build.build(tmp_path, "none-such")
    assert not list(tmp_path.iterdir())


def test_compiler_error_raises_and_leaves_no_files(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="refused the kernels") as caught:
        build.build(tmp_path, "false")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_unwritable_folder_raises(compiler: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="choose another --kernels_folder"):
        build.build(tmp_path / "file", compiler)


def test_damaged_library_raises(tmp_path: Path) -> None:
    path = tmp_path / "damaged.so"
    path.write_bytes(b"\x7fELF and no more")
    with pytest.raises(MachineError, match="cannot be loaded .* builds it again"):
        cpu_kernels.load(path)


@pytest.mark.parametrize("version", ["{0}.{2}", "{3}.{1}"])
def test_library_for_another_version_of_the_ffi_raises(compiler: str, tmp_path: Path, version: str) -> None:
    major, minor = build.ffi_version()
    version = version.format(major, minor, minor + 1, major + 1)
    functions = "".join(f"void jaxnets_{name}() {{}}\n" for name in cpu_kernels.FUNCTIONS)
    text = f'extern "C" {{\nconst char* jaxnets_ffi_version() {{ return "{version}"; }}\n{functions}}}\n'
    (tmp_path / "other.cc").write_text(text)
    path = tmp_path / "other.so"
    command = [compiler, "-shared", "-fPIC", str(tmp_path / "other.cc"), "-o", str(path)]
    subprocess.run(command, check=True)
    message = rf"version {re.escape(version)} of XLA's FFI, here is {major}\.{minor}: "
    with pytest.raises(MachineError, match=message):
        cpu_kernels.load(path)


def _calls(function: str, *arrays: jax.Array, **options: object) -> bool:
    """Returns whether a compiled program calls a C++ function."""
    program = {"convolution": convolution, "max_pool": max_pool, "batch_norm": batch_norm}[function]
    return "jaxnets_" in jax.jit(lambda *a: program(*a, **options)).lower(*arrays).as_text()


def test_unsupported_dtypes_use_jax(kernels: tuple[Kernels, ...]) -> None:
    x, kernel, form = jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 2)), kernels[-1]
    half = jnp.float16
    assert _calls("convolution", x, kernel, implementation=form)
    assert not _calls("convolution", x, kernel, implementation="by_shape")
    assert not _calls("convolution", x, kernel)  # the kernels are not enabled
    assert _calls("convolution", x.astype(jnp.bfloat16), kernel, implementation=form)
    assert not _calls("convolution", x.astype(half), kernel.astype(half), implementation=form)
    assert _calls("max_pool", x, implementation=form, **ONE_BY_ONE)
    assert _calls("max_pool", x.astype(jnp.bfloat16), implementation=form, **ONE_BY_ONE)
    assert not _calls("max_pool", x.astype(half), implementation=form, **ONE_BY_ONE)
    parameters = jnp.ones((2, 2))
    assert _calls("batch_norm", x, *parameters, epsilon=1e-5, implementation=form)
    assert not _calls("batch_norm", x.astype(half), *parameters, epsilon=1e-5, implementation=form)


def test_a_library_may_be_loaded_twice(built: Path, tmp_path: Path) -> None:
    library = build.library_path(built)
    copy = tmp_path / library.name
    shutil.copy(library, copy)
    assert cpu_kernels.load(copy) == cpu_kernels.load(library)
    with cpu_kernels.enabled(copy):
        assert cpu_kernels.in_use() == cpu_kernels.load(library)[-1]
    assert cpu_kernels.in_use() is None
