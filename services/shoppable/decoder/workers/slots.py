"""The service's side of the memory in which workers hand over pictures."""

import contextlib
import fcntl
import mmap
import os
from typing import Self

from shoppable.decoder.domain import Encoding, Order
from shoppable.decoder.workers.protocol import Slots

_PAGE = mmap.PAGESIZE
# A JPEG of noise at the highest quality has less than two bytes a pixel; theory knows no bound that is of use.
_BYTES_PER_PIXEL = {Encoding.RGB24: 3, Encoding.JPEG: 4}
_HEADERS = 64 * 1024


def slots_for(order: Order, *, max_pixels: int, count: int) -> Slots:
    """Return slots that hold whatever picture an order may give."""
    pixels = max_pixels if order.longest_side is None else min(max_pixels, order.longest_side**2)
    size = pixels * _BYTES_PER_PIXEL[order.encoding] + _HEADERS
    return Slots(count=count, bytes_each=-(-size // _PAGE) * _PAGE)


class SlotMemory:
    """Memory without a name, which is gone with the last process that holds it. Its size cannot be changed."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self.descriptor = os.memfd_create("shoppable-pictures", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self.descriptor, slots.total_bytes)
            # A worker that shrank it would crash the service.
            fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            self._memory = mmap.mmap(self.descriptor, slots.total_bytes, prot=mmap.PROT_READ)
        except BaseException:
            os.close(self.descriptor)
            raise
        self._lent: dict[int, memoryview] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)
        for view in self._lent.values():
            view.release()
        with contextlib.suppress(BufferError):  # somebody looks at a picture: it goes when he does
            self._memory.close()

    @property
    def lent(self) -> int:
        """Return how many slots are lent."""
        return len(self._lent)

    def lend(self, slot: int, size: int) -> memoryview:
        """Return what is in a slot, to be looked at until it is taken back.

        Raises:
            ValueError: There is no such slot, it is lent already, or it is smaller.
        """
        if not (0 <= slot < self._slots.count and 1 <= size <= self._slots.bytes_each) or slot in self._lent:
            raise ValueError("no such slot to lend")
        start = slot * self._slots.bytes_each
        self._lent[slot] = memoryview(self._memory)[start : start + size]
        return self._lent[slot]

    def take_back(self, slot: int) -> None:
        """End the lending of a slot."""
        self._lent.pop(slot).release()
