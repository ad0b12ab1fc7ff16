"""Decoding on a GPU (NVDEC), where there is one.

Untested on a real one: the machines that run the tests have none. What is tested is that without one all is decoded in
software, and that a log line says so.
"""

from typing import Literal

import structlog
from av.codec.codec import Codec
from av.codec.hwaccel import HWAccel
from av.error import FFmpegError

Wish = Literal["none", "cuda", "auto"]
FAILURES = (FFmpegError, NotImplementedError, ValueError)
_log = structlog.get_logger(__name__)


def find_device(wish: Wish) -> str | None:
    """Return the kind of device that decodes, or None for software. Logs what was found, unless none is wished for."""
    if wish == "none":
        return None
    try:
        HWAccel("cuda").create(Codec("h264", "r"))
    except FAILURES as error:
        log = _log.warning if wish == "cuda" else _log.info
        log("no GPU to decode on: decoding in software", hardware=wish, error=type(error).__name__)
        return None
    _log.info("decoding on a GPU what it can decode", hardware=wish)
    return "cuda"


def acceleration(device: str) -> HWAccel:
    """Return what a container is opened with: frames come back to the host's memory, as from software."""
    return HWAccel(device, allow_software_fallback=True)
