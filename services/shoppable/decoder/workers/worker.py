"""A worker's life: one job, reported step by step. Runs in a process of its own."""

import importlib
import io
import mmap
import pkgutil
import socket
import traceback
from typing import Literal

import av
import numpy as np
from PIL import JpegImagePlugin  # noqa: F401  # Pillow would load it when it first writes one

from shoppable.decoder.adapters.hardware import device_failure
from shoppable.decoder.adapters.opening import ReadableFile
from shoppable.decoder.adapters.pyav import VideoFile
from shoppable.decoder.decoding import Decoding, Developed
from shoppable.decoder.domain import KeyframesOnly
from shoppable.decoder.faults import BrokenError, ExhaustedError, RefusedError, UnreadableError
from shoppable.decoder.workers import sandbox
from shoppable.decoder.workers.link import DistantFile, Link, ServiceGoneError
from shoppable.decoder.workers.protocol import Bug, Device, Done, Fault, Job, Opened, Picture

_MAX_TRACEBACK = 8000  # characters


def load_all() -> None:
    """Load what is otherwise loaded when it is first needed: a worker that is locked in cannot."""
    for found in pkgutil.walk_packages(av.__path__, "av."):
        if found.name != "av.__main__":
            importlib.import_module(found.name)


def run(connection: socket.socket, filter_program: bytes | None) -> None:
    """Do one job. The caller ends the process afterwards."""
    link = Link(connection)
    try:
        job, descriptors = link.receive_job()
        if job.task == "find device":
            link.report(Device(device_failure(job.guards.device or "")))
            return
        slots = mmap.mmap(descriptors.pop(0), job.slots.total_bytes) if job.slots else None
        file: ReadableFile
        file = io.FileIO(descriptors.pop(0)) if job.has_descriptor else DistantFile(link, seekable=job.seekable)
        # A GPU's driver opens devices and starts threads at any time: then only the process is a boundary.
        if job.guards.device is None:
            sandbox.confine(job.limits, filter_program)
        _Work(link, job, file, slots).run()
    except ServiceGoneError:
        return
    except MemoryError:
        link.report(Fault("exhausted", "the video needs more memory than it may have", 0, 0))
    except Exception:
        link.report(Bug(traceback.format_exc()[-_MAX_TRACEBACK:]))


class _Work:
    def __init__(self, link: Link, job: Job, file: ReadableFile, slots: mmap.mmap | None) -> None:
        self._link = link
        self._job = job
        self._file = file
        self._slots = slots
        self._video: VideoFile | None = None

    def run(self) -> None:
        try:
            self._decode()
        except RefusedError as error:
            self._report_fault("refused", error.text, error.reason, error.limit, error.value)
        except BrokenError as error:
            self._report_fault("broken", str(error))
        except UnreadableError as error:
            self._report_fault("unreadable", str(error))
        except (ExhaustedError, MemoryError):
            self._report_fault("exhausted", "the video needs more memory than it may have")

    def _decode(self) -> None:
        job = self._job
        watch = sandbox.StepWatch(job.guards.max_idle_work_s * job.guards.decode_threads)
        watch.step()
        keyframes_only = isinstance(job.order.sampling, KeyframesOnly)
        video = VideoFile(self._file, job.guards, size_bytes=job.size_bytes, keyframes_only=keyframes_only)
        self._video = video
        self._link.report(Opened(video.facts, video.accelerated))
        if job.task == "probe":
            return
        decoding = Decoding(video, job.order, job.guards, step=watch.step)
        for developed in decoding:
            self._hand_over(developed, decoding.damaged_packets)
        self._link.report(Done(decoding.summary()))

    def _hand_over(self, developed: Developed, damaged_packets: int) -> None:
        """Write a picture into a slot, as soon as there is one, and say so."""
        if self._slots is None or self._job.slots is None or self._video is None:
            raise RuntimeError("a job with pictures needs slots for them")
        slot = self._link.free_slot()
        height, width = developed.pixels.shape[:2]
        size = developed.pixels.size if developed.jpeg is None else len(developed.jpeg)
        place = np.frombuffer(self._slots, np.uint8, size, offset=slot * self._job.slots.bytes_each)
        if developed.jpeg is None:
            np.copyto(place.reshape(developed.pixels.shape), developed.pixels)
        else:
            place[:] = np.frombuffer(developed.jpeg, np.uint8)
        self._link.report(
            Picture(
                slot=slot,
                size_bytes=size,
                width=width,
                height=height,
                time_ns=developed.time_ns,
                keyframe=developed.keyframe,
                scene_cut=developed.scene_cut,
                frames_decoded=self._video.frames_decoded,
                damaged_packets=damaged_packets,
            )
        )

    def _report_fault(
        self,
        fault: Literal["refused", "broken", "unreadable", "exhausted"],
        text: str,
        reason: str = "",
        limit: int | None = None,
        value: int | None = None,
    ) -> None:
        decoded, damaged = (self._video.frames_decoded, self._video.damaged_packets) if self._video else (0, 0)
        self._video = None  # with its memory, should that have run out
        self._link.report(Fault(fault, text, decoded, damaged, reason, limit, value))
