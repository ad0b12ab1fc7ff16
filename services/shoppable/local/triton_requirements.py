"""Whether this machine can run the Triton server of the `nvidia-pytriton` wheel, and where its parts lie.

Each requirement that is not met is an error of its own, whose one sentence says what to install and names the
substitute. Nothing is started and nothing is written.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

_SUBSTITUTE = "or run with --inference onnxruntime"
_OLDEST_GLIBC = (2, 35)  # the wheel's platform tag
# Six processes that each keep a batch of images there (8 MB for the largest), with room to spare.
_SHARED_MEMORY_BYTES = 64_000_000
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 -- where Linux keeps POSIX shared memory


class TritonRequirementError(Exception):
    """Triton cannot run here; the text is one sentence for the user."""


class UnsupportedSystemError(TritonRequirementError):
    """Not Linux."""


class OldLibcError(TritonRequirementError):
    """The C library is older than the wheel's, or another one."""


class WheelMissingError(TritonRequirementError):
    """The wheel is not installed, or not wholly."""


class StubMissingError(TritonRequirementError):
    """The wheel has no Python backend for this version of Python."""


class SharedPythonMissingError(TritonRequirementError):
    """This Python has no shared library, which the Python backend links."""


class SharedMemoryTooSmallError(TritonRequirementError):
    """The shared memory cannot take the tensors, as in a container with the default 64 MB."""


@dataclass(frozen=True, slots=True)
class TritonInstallation:
    """Where the parts of the server lie.

    Attributes:
        binary: The server.
        python_backend: The folder of the Python backend, without the stub.
        stub: The Python backend's process for this version of Python.
        library_folders: For LD_LIBRARY_PATH, in order.
    """

    binary: Path
    python_backend: Path
    stub: Path
    library_folders: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Host:
    """What the requirements depend on.

    Attributes:
        system: `linux`, `darwin`, `win32`.
        python_version: Major and minor.
        glibc_version: Or None where the C library is not glibc.
        package: The installed package `pytriton`, if there is one.
        library_folders: Where the shared library of this Python may lie.
        shared_memory_free_bytes: In /dev/shm, or None where there is none.
    """

    system: str
    python_version: tuple[int, int]
    glibc_version: tuple[int, int] | None
    package: Path | None
    library_folders: tuple[Path, ...]
    shared_memory_free_bytes: int | None

    @classmethod
    def current(cls) -> Host:
        """The machine and the Python that run this program."""
        spec = importlib.util.find_spec("pytriton")
        return cls(
            system=sys.platform,
            python_version=sys.version_info[:2],
            glibc_version=_glibc_version(),
            package=None if spec is None or spec.origin is None else Path(spec.origin).parent,
            library_folders=_python_library_folders(),
            shared_memory_free_bytes=_shared_memory_free_bytes(),
        )


def find_triton(host: Host) -> TritonInstallation:
    """Checks every requirement.

    Args:
        host: `Host.current()`.

    Returns:
        Where the parts of the server lie.

    Raises:
        TritonRequirementError: The first requirement that is not met.
    """
    version = "{}.{}".format(*host.python_version)
    if host.system != "linux":
        raise UnsupportedSystemError(
            f"Triton runs on Linux only, and this is {host.system}: use a Linux machine or container, {_SUBSTITUTE}."
        )
    if host.glibc_version is None or host.glibc_version < _OLDEST_GLIBC:
        found = "another C library" if host.glibc_version is None else "{}.{}".format(*host.glibc_version)
        raise OldLibcError(
            "Triton needs glibc {}.{} or newer and found {}: ".format(*_OLDEST_GLIBC, found)
            + f"install a newer Linux (Debian 12, Ubuntu 22.04), {_SUBSTITUTE}."
        )
    if host.package is None:
        raise WheelMissingError(
            "The Triton server is not installed: run pip install 'shoppable[local]' "
            f"with Python 3.11 or 3.12, {_SUBSTITUTE}."
        )
    server = host.package / "tritonserver"
    binary = server / "bin" / "tritonserver"
    backend = server / "backends" / "python"
    if not binary.is_file() or not (backend / "libtriton_python.so").is_file():
        raise WheelMissingError(
            f"The installation of the Triton server in {host.package} is not complete: "
            f"run pip install --force-reinstall nvidia-pytriton, {_SUBSTITUTE}."
        )
    stub = server / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.is_file():
        raise StubMissingError(
            f"Triton's Python backend does not support Python {version}: install Python 3.11 or 3.12, {_SUBSTITUTE}."
        )
    library = f"libpython{version}.so.1.0"
    folder = next((folder for folder in host.library_folders if (folder / library).is_file()), None)
    if folder is None:
        raise SharedPythonMissingError(
            f"Triton's Python backend needs {library}, which this Python lacks: "
            f"install the package libpython{version} (Debian, Ubuntu), a Python of uv, "
            f"or one built with --enable-shared, {_SUBSTITUTE}."
        )
    if host.shared_memory_free_bytes is None or host.shared_memory_free_bytes < _SHARED_MEMORY_BYTES:
        raise SharedMemoryTooSmallError(
            f"Triton's Python backend needs {_SHARED_MEMORY_BYTES // 1_000_000} MB free in /dev/shm: "
            f"free some, start the container with --shm-size=256m, {_SUBSTITUTE}."
        )
    return TritonInstallation(
        binary=binary,
        python_backend=backend,
        stub=stub,
        library_folders=(folder, host.package.parent / "nvidia_pytriton.libs"),
    )


def _glibc_version() -> tuple[int, int] | None:
    try:
        name = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, ValueError, OSError):  # no such question on this system, or another C library
        return None
    parts = name.removeprefix("glibc ").split(".")
    if len(parts) < 2 or not (parts[0].isdecimal() and parts[1].isdecimal()):
        return None
    return int(parts[0]), int(parts[1])


def _python_library_folders() -> tuple[Path, ...]:
    """Where the shared library may lie: LIBDIR first, but a Python that was moved (uv's) names its build's."""
    base = Path(sys.base_prefix) / "lib"
    folders = [base]
    if named := sysconfig.get_config_var("LIBDIR"):
        folders.insert(0, Path(named))
    if architecture := sysconfig.get_config_var("MULTIARCH"):  # Debian's subfolder
        folders += [folder / architecture for folder in tuple(folders)]
    return tuple(folders)


def _shared_memory_free_bytes() -> int | None:
    try:
        state = os.statvfs(_SHARED_MEMORY)
    except OSError:
        return None
    return state.f_bavail * state.f_frsize
