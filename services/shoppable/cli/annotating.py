"""Annotates one video over a stream, with progress, and gathers the answer as one message."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from shoppable.cli.console import Bar, Reporter
from shoppable.cli.failures import CommandError
from shoppable.client.errors import ShoppableError
from shoppable.client.orchestrator import OrchestratorClient
from shoppable.v1 import orchestrator_pb2 as pb

_PATIENCE_S = 10.0  # with services that say when to try again: as long as one takes to come back


async def annotate(
    client: OrchestratorClient, source: Path | str, options: pb.AnnotateOptions, reporter: Reporter
) -> pb.AnnotateVideoResponse:
    """Return all objects in order of their first appearance, and the summary.

    A call that fails before anything came of it, with word when to try again, is made again, for some seconds.

    Raises:
        CommandError: The stream ended before its summary.
        ShoppableError: The call failed.
    """
    deadline_s = time.monotonic() + _PATIENCE_S
    name = source.name if isinstance(source, Path) else source
    while True:
        answer = _Answer()
        try:
            with reporter.bar(f"looking at {name}") as bar:
                async for message in client.stream_annotate(source, options):
                    answer.take(message, bar)
        except ShoppableError as error:
            delay_s = error.retry_after_s
            if answer.begun or delay_s is None or time.monotonic() + delay_s > deadline_s:
                raise
            reporter.note(f"{error.message.split(';')[0]}: trying again in {delay_s:g} s", style="yellow")
            await asyncio.sleep(delay_s)
        else:
            return answer.whole()


class _Answer:
    """What has come of a stream so far."""

    def __init__(self) -> None:
        self.begun = False
        self._objects: dict[str, pb.ShoppableObject] = {}
        self._summary: pb.AnnotateSummary | None = None

    def take(self, message: pb.StreamAnnotateVideoResponse, bar: Bar) -> None:
        """Keep what a message says, and show how far it is."""
        self.begun = True
        match message.WhichOneof("response"):
            case "progress":
                progress = message.progress
                fraction = progress.fraction if progress.HasField("fraction") else None
                bar.update(fraction=fraction, text=_progress_text(progress, len(self._objects)))
            case "object":
                # One that was sent before it was final is replaced.
                self._objects[message.object.object_id] = message.object
            case "summary":
                self._summary = message.summary
            case _:
                pass

    def whole(self) -> pb.AnnotateVideoResponse:
        """Return all as one message. Raises CommandError."""
        if self._summary is None:
            raise CommandError("the orchestrator ended the stream without a summary: the result is not complete")
        objects = sorted(self._objects.values(), key=_first_moment)
        return pb.AnnotateVideoResponse(objects=objects, summary=self._summary)


def _first_moment(thing: pb.ShoppableObject) -> tuple[int, str]:
    return (thing.segments[0].start.ToNanoseconds() if thing.segments else 0, thing.object_id)


def _progress_text(progress: pb.AnnotateProgress, objects: int) -> str:
    seconds = progress.time.ToMilliseconds() / 1000
    found = f", {objects} object{'' if objects == 1 else 's'} so far" if objects else ""
    return f"at {seconds:.1f} s, {progress.frames_detected} frames{found}"
