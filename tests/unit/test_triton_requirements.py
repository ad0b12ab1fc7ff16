from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from shoppable.local import triton_requirements as requirements

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def host(tmp_path: Path) -> requirements.Host:
    """A machine that meets every requirement."""
    package = tmp_path / "site-packages" / "pytriton"
    server = package / "tritonserver"
    libraries = tmp_path / "lib"
    for file in (
        server / "bin" / "tritonserver",
        server / "backends" / "python" / "libtriton_python.so",
        server / "python_backend_stubs" / "3.11" / "triton_python_backend_stub",
        libraries / "libpython3.11.so.1.0",
    ):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return requirements.Host(
        system="linux",
        python_version=(3, 11),
        glibc_version=(2, 36),
        package=package,
        library_folders=(tmp_path / "elsewhere", libraries),
        shared_memory_free_bytes=10**9,
    )


def test_find_triton_names_every_part_when_all_is_there(host: requirements.Host, tmp_path: Path) -> None:
    found = requirements.find_triton(host)
    assert found.binary.is_file()
    assert found.stub.is_file()
    assert found.library_folders == (tmp_path / "lib", tmp_path / "site-packages" / "nvidia_pytriton.libs")


def _remove(*parts: str) -> Callable[[requirements.Host], requirements.Host]:
    def change(host: requirements.Host) -> requirements.Host:
        assert host.package is not None
        host.package.joinpath("tritonserver", *parts).unlink()
        return host

    return change


@pytest.mark.parametrize(
    ("change", "error", "advice"),
    [
        pytest.param(
            lambda host: dataclasses.replace(host, system="darwin"),
            requirements.UnsupportedSystemError,
            "use a Linux machine or container",
            id="macOS",
        ),
        pytest.param(
            lambda host: dataclasses.replace(host, glibc_version=(2, 31)),
            requirements.OldLibcError,
            "found 2.31: install a newer Linux",
            id="old glibc",
        ),
        pytest.param(
            lambda host: dataclasses.replace(host, glibc_version=None),
            requirements.OldLibcError,
            "another C library",
            id="musl",
        ),
        pytest.param(
            lambda host: dataclasses.replace(host, package=None),
            requirements.WheelMissingError,
            "pip install 'shoppable[local]'",
            id="no wheel",
        ),
        pytest.param(
            _remove("bin", "tritonserver"),
            requirements.WheelMissingError,
            "pip install --force-reinstall nvidia-pytriton",
            id="wheel without its server",
        ),
        pytest.param(
            _remove("python_backend_stubs", "3.11", "triton_python_backend_stub"),
            requirements.StubMissingError,
            "install Python 3.11 or 3.12",
            id="no stub",
        ),
        pytest.param(
            lambda host: dataclasses.replace(host, library_folders=()),
            requirements.SharedPythonMissingError,
            "install the package libpython3.11",
            id="Python without a shared library",
        ),
        pytest.param(
            lambda host: dataclasses.replace(host, shared_memory_free_bytes=8_000_000),
            requirements.SharedMemoryTooSmallError,
            "--shm-size=256m",
            id="small /dev/shm",
        ),
        pytest.param(
            lambda host: dataclasses.replace(host, shared_memory_free_bytes=None),
            requirements.SharedMemoryTooSmallError,
            "/dev/shm",
            id="no /dev/shm",
        ),
    ],
)
def test_find_triton_says_in_one_sentence_what_to_do(
    host: requirements.Host,
    change: Callable[[requirements.Host], requirements.Host],
    error: type[requirements.TritonRequirementError],
    advice: str,
) -> None:
    with pytest.raises(error) as caught:
        requirements.find_triton(change(host))
    message = str(caught.value)
    assert advice in message
    assert message.endswith("or run with --inference onnxruntime.")
    assert "\n" not in message


def test_current_host_knows_its_python_and_finds_the_package_without_importing_it() -> None:
    host = requirements.Host.current()
    assert host.python_version >= (3, 11)
    assert host.library_folders
    if host.system == "linux":
        assert host.shared_memory_free_bytes is not None
