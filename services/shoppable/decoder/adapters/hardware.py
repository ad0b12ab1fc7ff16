"""Decoding on a GPU (NVDEC), where there is one.

Untested on a real one: the machines that run the tests have none. What is tested is that without one all is decoded in
software, and that a log line says so: see `workers.devices`.
"""

from av.codec.codec import Codec
from av.codec.hwaccel import HWAccel
from av.error import FFmpegError

FAILURES = (FFmpegError, NotImplementedError, ValueError)


def device_failure(device: str) -> str | None:
    """Return what is wrong with a kind of device, or None if it is there and decodes."""
    try:
        HWAccel(device).create(Codec("h264", "r"))
    except FAILURES as error:
        return type(error).__name__
    return None


def acceleration(device: str) -> HWAccel:
    """Return what a container is opened with: frames come back to the host's memory, as from software."""
    return HWAccel(device, allow_software_fallback=True)
