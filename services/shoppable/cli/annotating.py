"""Annotates one video over a stream, with progress, and gathers the answer as one message."""

from __future__ import annotations

from pathlib import Path

from shoppable.cli.console import Reporter
from shoppable.cli.failures import CommandError
from shoppable.client.orchestrator import OrchestratorClient
from shoppable.v1 import orchestrator_pb2 as pb


async def annotate(
    client: OrchestratorClient, source: Path | str, options: pb.AnnotateOptions, reporter: Reporter
) -> pb.AnnotateVideoResponse:
    """Return all objects in order of their first appearance, and the summary.

    Raises:
        CommandError: The stream ended before its summary.
        ShoppableError: The call failed.
    """
    objects: dict[str, pb.ShoppableObject] = {}
    response = pb.AnnotateVideoResponse()
    complete = False
    name = source.name if isinstance(source, Path) else source
    with reporter.bar(f"looking at {name}") as bar:
        async for message in client.stream_annotate(source, options):
            match message.WhichOneof("response"):
                case "progress":
                    progress = message.progress
                    fraction = progress.fraction if progress.HasField("fraction") else None
                    bar.update(fraction=fraction, text=_progress_text(progress, len(objects)))
                case "object":
                    # One that was sent before it was final is replaced.
                    objects[message.object.object_id] = message.object
                case "summary":
                    response.summary.CopyFrom(message.summary)
                    complete = True
                case _:
                    pass
    if not complete:
        raise CommandError("the orchestrator ended the stream without a summary: the result is not complete")
    response.objects.extend(sorted(objects.values(), key=_first_moment))
    return response


def _first_moment(thing: pb.ShoppableObject) -> tuple[int, str]:
    return (thing.segments[0].start.ToNanoseconds() if thing.segments else 0, thing.object_id)


def _progress_text(progress: pb.AnnotateProgress, objects: int) -> str:
    seconds = progress.time.ToMilliseconds() / 1000
    found = f", {objects} object{'' if objects == 1 else 's'} so far" if objects else ""
    return f"at {seconds:.1f} s, {progress.frames_detected} frames{found}"
