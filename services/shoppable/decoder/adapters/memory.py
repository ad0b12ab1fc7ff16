"""Tells a video that needs more memory than it may have from one that is damaged: codecs fail alike on both.

Damage can make a header ask for sizes that nobody could allocate; the memory that is allowed is then still there.
"""

import mmap

from shoppable.decoder.faults import ExhaustedError

_BYTES_PER_PIXEL = 8  # of the largest format, 16 bits of four components


def check_memory(error: BaseException, *, max_pixels: int) -> None:
    """Look, after an error of FFmpeg's, whether memory has run out.

    Raises:
        ExhaustedError: There is no room for another frame of so many pixels.
    """
    try:
        mmap.mmap(-1, max_pixels * _BYTES_PER_PIXEL).close()
    except OSError:
        raise ExhaustedError("the video needs more memory than it may have") from error
