"""Says what a request would do, and all that is wrong with it, without doing it."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shoppable.orchestrator.domain import Options
from shoppable.orchestrator.estimates import CostEstimates
from shoppable.orchestrator.pipeline import Stages
from shoppable.orchestrator.settings import OrchestratorSettings
from shoppable.runtime.errors import ExhaustedError, InvalidRequestError, ServiceError, UnavailableError, Violation
from shoppable.v1 import common_pb2

STAGES = ("decode", "detect", "match")


@dataclass(frozen=True)
class LimitUse:
    """How much of a limit a request takes."""

    service: str
    name: str
    unit: str
    limit: int
    used: int


@dataclass(frozen=True)
class Plan:
    """What a request would do. Unknown is None."""

    video: common_pb2.VideoInfo | None
    frames_to_sample: int | None
    frames_to_decode: int | None
    expected_s: float | None
    basis: int  # videos
    stages_s: Mapping[str, float]
    limits: Sequence[LimitUse]
    offers: bool
    excluded_categories: Sequence[str]


class Planner:
    """The use case."""

    def __init__(self, stages: Stages, settings: OrchestratorSettings, estimates: CostEstimates) -> None:
        self._stages = stages
        self._settings = settings
        self._estimates = estimates

    async def plan(self, source: common_pb2.VideoSource, options: Options, found: Sequence[Violation]) -> Plan:
        """Ask all that can judge the request at once; `found` is what is known to be wrong with it.

        Raises:
            InvalidRequestError: Something is wrong: all of it.
            ServiceError: Exactly one other thing is, as the call itself would say; or it cannot be judged now.
        """
        upload = source.WhichOneof("source") == "upload"
        can_probe = source.WhichOneof("source") in {"uri", "inline_bytes"} and not any(
            violation.field.startswith("source") for violation in found
        )
        checks = {
            "source": self._stages.frames.probe(source) if can_probe else None,
            "limits": self._stages.frames.limits(),
            "options.detection_models": self._stages.detector.check(options),
            "options.catalog": self._stages.matcher.check(options.matching) if options.matching else None,
        }
        asked = {field: check for field, check in checks.items() if check is not None}
        answers = dict(zip(asked, await asyncio.gather(*asked.values(), return_exceptions=True), strict=True))
        video = answers.get("source")
        limits = answers["limits"]
        violations = list(found)
        if upload and isinstance(limits, dict) and source.upload.total_bytes > limits.get("upload_bytes", math.inf):
            text = f"must be at most {limits['upload_bytes']}, and is {source.upload.total_bytes}"
            violations.append(Violation("source.upload.total_bytes", text))
        _raise_all(violations, answers)
        info = video if isinstance(video, common_pb2.VideoInfo) else None
        sampled, decoded = frames_of(info, options) if info else (None, None)
        return Plan(
            video=info,
            frames_to_sample=sampled,
            frames_to_decode=decoded,
            expected_s=self._estimates.whole_s(sampled),
            basis=self._estimates.videos,
            stages_s=self._estimates.stages_s(sampled),
            limits=self._uses(source, info, decoded, limits if isinstance(limits, dict) else {}),
            offers=options.matching is not None,
            excluded_categories=sorted(options.offers.excluded_categories),
        )

    def _uses(
        self,
        source: common_pb2.VideoSource,
        video: common_pb2.VideoInfo | None,
        frames: int | None,
        limits: Mapping[str, int],
    ) -> list[LimitUse]:
        used: list[tuple[str, str, int | None]] = []
        uses = []
        match source.WhichOneof("source"):
            case "inline_bytes":
                size = len(source.inline_bytes)
                used.append(("inline_video_bytes", "bytes", size))
                most = self._settings.max_inline_bytes
                uses.append(LimitUse("orchestrator", "inline_video_bytes", "bytes", most, size))
            case "upload":
                size_known = source.upload.HasField("total_bytes")
                used.append(("upload_bytes", "bytes", source.upload.total_bytes if size_known else None))
            case "uri" if video:
                used.append(("file_bytes", "bytes", video.size_bytes if video.HasField("size_bytes") else None))
        if video:
            used += [
                ("frame_pixels", "pixels", video.width * video.height),
                ("video_seconds", "seconds", math.ceil(_length_s(video) or 0) or None),
                ("video_frames", "frames", frames),
            ]
        uses += [
            LimitUse("frame decoder", name, unit, limits[name], amount)
            for name, unit, amount in used
            if amount is not None and name in limits
        ]
        return uses


def frames_of(video: common_pb2.VideoInfo, options: Options) -> tuple[int | None, int | None]:
    """Return how many frames would be looked at, and decoded for it; None where only the content tells."""
    length_s = _length_s(video)
    if length_s is None:
        return None, None
    start_s = options.start_s or 0.0
    span_s = max(0.0, min(length_s, options.end_s or length_s) - start_s)
    rate = video.average_frame_rate if video.HasField("average_frame_rate") else None
    stored = math.ceil(span_s * rate - 1e-6) if rate else None
    sampling = options.sampling
    match sampling.WhichOneof("strategy"):
        case "frames_per_second":
            wanted = math.ceil(span_s * sampling.frames_per_second - 1e-6)
            return (min(wanted, stored) if stored is not None else wanted), stored
        case "every_nth_frame":
            return (math.ceil(stored / sampling.every_nth_frame) if stored is not None else None), stored
        case "timestamps":
            # A moment behind the end means no frame.
            return sum(moment.ToMicroseconds() / 1e6 < length_s for moment in sampling.timestamps.times), None
        case "scenes":
            return None, stored
    return None, None


def _length_s(video: common_pb2.VideoInfo) -> float | None:
    return video.duration.ToMicroseconds() / 1e6 if video.HasField("duration") else None


def _raise_all(violations: list[Violation], answers: Mapping[str, object]) -> None:
    """Raise what is wrong: one error as it is, several as violations of the fields that they are about."""
    lasting: list[tuple[str, ServiceError]] = []
    passing: list[ServiceError] = []
    for field, answer in answers.items():
        if isinstance(answer, InvalidRequestError):
            violations += [one for one in answer.violations if one not in violations]
        elif isinstance(answer, (UnavailableError, ExhaustedError)):
            passing.append(answer)
        elif isinstance(answer, ServiceError):
            lasting.append((field, answer))
        elif isinstance(answer, BaseException):
            raise answer
    if not violations and len(lasting) == 1:
        raise lasting[0][1]
    violations += [Violation(field, error.message) for field, error in lasting]
    if violations:
        raise InvalidRequestError(violations)
    if passing:
        raise passing[0]
