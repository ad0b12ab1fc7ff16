"""Messages to domain values, with all checks; and back."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from shoppable.orchestrator.convert_offers import (
    read_max_lag,
    read_offers,
    write_duration,
    write_match,
    write_rematch_state,
    write_sensitive_range,
)
from shoppable.orchestrator.domain import (
    Box,
    Event,
    FoundObject,
    MatchOptions,
    Options,
    Progress,
    Summary,
    View,
    Worn,
)
from shoppable.orchestrator.settings import OrchestratorSettings
from shoppable.runtime.images import write_jpeg
from shoppable.runtime.validation import Violations
from shoppable.v1 import common_pb2, orchestrator_pb2

_THUMBNAIL_QUALITY = 85
_MAX_NAMES = 100  # of models or categories
_BOX_TOLERANCE = 0.01  # share of the frame
_MAX_MOMENTS = 10_000  # of a sampling by timestamps


def read_source(
    source: common_pb2.VideoSource, settings: OrchestratorSettings, violations: Violations, *, upload: bool
) -> None:
    """Check a source; the decoder checks what only it can know. `upload` tells whether chunks may follow."""
    kind = source.WhichOneof("source")
    if kind is None:
        violations.add("source", "must be set" + (" to a uri, inline_bytes or upload" if upload else ""))
    elif kind == "uri":
        violations.check(bool(source.uri), "source.uri", "must not be empty")
    elif kind == "inline_bytes":
        size = len(source.inline_bytes)
        violations.check(size > 0, "source.inline_bytes", "must not be empty")
        violations.check(
            size <= settings.max_inline_bytes,
            "source.inline_bytes",
            f"must have at most {settings.max_inline_bytes} bytes, and has {size}; upload larger videos in chunks",
        )
    else:
        violations.check(upload, "source.upload", "needs StreamAnnotateVideo, which takes chunks")


def read_options(
    options: orchestrator_pb2.AnnotateOptions, settings: OrchestratorSettings, violations: Violations
) -> Options:
    """Check options and fill in the defaults."""
    start = violations.optional_duration(options, "start_time", prefix="options.")
    end = violations.optional_duration(options, "end_time", prefix="options.")
    if end is not None:
        violations.check(end > (start or end * 0), "options.end_time", "must be after start_time, and after 0")
    numbers = {
        "longest_side": violations.optional_number(
            options, "longest_side", low=64, high=4096, default=settings.default_longest_side, prefix="options."
        ),
        "min_detection_score": violations.optional_number(
            options, "min_detection_score", low=0, high=1, default=-1, prefix="options."
        ),
        "max_objects": violations.optional_number(
            options, "max_objects", low=1, high=10_000, default=0, prefix="options."
        ),
        "box_tolerance": violations.optional_number(
            options, "box_tolerance", low=0, high=0.5, default=_BOX_TOLERANCE, prefix="options."
        ),
        "min_object_confidence": violations.optional_number(
            options, "min_object_confidence", low=0, high=1, default=0, prefix="options."
        ),
    }
    if options.HasField("min_object_confidence"):
        violations.check(bool(options.catalog), "options.catalog", "must be set if min_object_confidence is set")
    for name in ("detection_models", "categories"):
        values: Sequence[str] = getattr(options, name)
        violations.check(len(values) <= _MAX_NAMES, f"options.{name}", f"must have at most {_MAX_NAMES} entries")
        for index, value in enumerate(values[:_MAX_NAMES]):
            violations.check(bool(value), f"options.{name}[{index}]", "must not be empty")
    offers = read_offers(options.offers, settings, violations, prefix="options.offers.")
    matching = _read_matching(options, violations)
    return Options(
        sampling=_read_sampling(options.sampling, settings, violations),
        start_s=start.total_seconds() if start is not None else None,
        end_s=end.total_seconds() if end is not None else None,
        longest_side=int(numbers["longest_side"]),
        detection_models=tuple(options.detection_models),
        min_detection_score=numbers["min_detection_score"] if options.HasField("min_detection_score") else None,
        derive_apparel=options.derive_apparel_regions,
        categories=tuple(options.categories),
        max_objects=int(numbers["max_objects"]) or None,
        matching=None if offers.opt_out else matching,
        thumbnails=not options.omit_thumbnails,
        provisional=options.include_provisional_objects,
        offers=offers,
        asked_to_exclude=tuple(options.offers.excluded_categories),
        rematch_state=options.include_rematch_state,
        max_lag_s=read_max_lag(options, violations),
        timeout_s=settings.live_timeout_s if options.HasField("live") else None,
        box_tolerance=numbers["box_tolerance"],
        min_object_confidence=numbers["min_object_confidence"] if options.HasField("min_object_confidence") else None,
    )


def _read_sampling(
    sampling: common_pb2.FrameSampling, settings: OrchestratorSettings, violations: Violations
) -> common_pb2.FrameSampling:
    match sampling.WhichOneof("strategy"):
        case None:
            return common_pb2.FrameSampling(frames_per_second=settings.default_frames_per_second)
        case "frames_per_second":
            rate = sampling.frames_per_second
            field = "options.sampling.frames_per_second"
            violations.check(0.01 <= rate <= 240, field, f"must be in 0.01..240, and is {rate:g}")
        case "every_nth_frame":
            step = sampling.every_nth_frame
            field = "options.sampling.every_nth_frame"
            violations.check(1 <= step <= 100_000, field, f"must be in 1..100000, and is {step}")
        case "timestamps":
            # The decoder checks the order of the times.
            field, count = "options.sampling.timestamps.times", len(sampling.timestamps.times)
            violations.check(1 <= count <= _MAX_MOMENTS, field, f"must be 1..{_MAX_MOMENTS} times, and are {count}")
        case "scenes":
            violations.optional_number(
                sampling.scenes, "frames_per_second", low=0.01, high=240, default=1, prefix="options.sampling.scenes."
            )
    return sampling


def _read_matching(options: orchestrator_pb2.AnnotateOptions, violations: Violations) -> MatchOptions | None:
    max_products = violations.optional_number(
        options, "max_products_per_object", low=1, high=100, default=5, prefix="options."
    )
    min_confidence = violations.optional_number(
        options, "min_product_confidence", low=0, high=1, default=0, prefix="options."
    )
    match_confidence = violations.optional_number(
        options, "match_confidence", low=0, high=1, default=0, prefix="options."
    )
    min_revision = violations.optional_number(
        options, "min_catalog_revision", low=0, high=2**63 - 1, default=0, prefix="options."
    )
    if not options.catalog:
        violations.check(
            not options.HasField("product_filter"), "options.catalog", "must be set if product_filter is set"
        )
        return None
    return MatchOptions(
        catalog=options.catalog,
        product_filter=options.product_filter if options.HasField("product_filter") else None,
        max_products=int(max_products),
        min_confidence=min_confidence,
        match_confidence=match_confidence if options.HasField("match_confidence") else None,
        min_revision=int(min_revision) if options.HasField("min_catalog_revision") else None,
    )


def write_event(
    event: Event, settings: OrchestratorSettings, options: Options
) -> orchestrator_pb2.StreamAnnotateVideoResponse:
    """Return an event as a message of the stream. Blocking where it encodes a thumbnail."""
    match event:
        case Progress():
            return orchestrator_pb2.StreamAnnotateVideoResponse(progress=_write_progress(event))
        case FoundObject():
            return orchestrator_pb2.StreamAnnotateVideoResponse(object=_write_object(event, settings, options))
        case Summary():
            return orchestrator_pb2.StreamAnnotateVideoResponse(summary=_write_summary(event))
    return orchestrator_pb2.StreamAnnotateVideoResponse(video=event)


def surest_first(found: orchestrator_pb2.ShoppableObject) -> tuple[float, float]:
    """Return the key by which objects are chosen if there are too many: sort in reverse."""
    return (found.confidence if found.HasField("confidence") else -1.0, found.detection_score)


def _write_progress(progress: Progress) -> orchestrator_pb2.AnnotateProgress:
    return orchestrator_pb2.AnnotateProgress(
        time=write_duration(progress.time_s),
        fraction=progress.fraction,
        frames_sampled=progress.frames_sampled,
        frames_detected=progress.frames_detected,
        objects_final=progress.objects_final,
        frames_dropped=progress.frames_dropped,
        segments_matched=progress.segments_matched,
    )


def _write_object(
    found: FoundObject, settings: OrchestratorSettings, options: Options
) -> orchestrator_pb2.ShoppableObject:
    view = found.best_view
    message = orchestrator_pb2.ShoppableObject(
        object_id=found.object_id,
        label=found.label,
        category=found.category,
        detection_score=found.detection_score,
        segments=[
            common_pb2.VideoSegment(start=write_duration(segment.start_s), end=write_duration(segment.end_s))
            for segment in found.segments
        ],
        boxes=[
            orchestrator_pb2.TimedBox(time=write_duration(seen.time_s), box=_write_box(seen.box), score=seen.score)
            for seen in found.observations
        ],
        best_view=orchestrator_pb2.BestView(
            time=write_duration(view.time_s),
            box=_write_box(view.box),
            thumbnail=_thumbnail(view, settings.thumbnail_side) if options.thumbnails else None,
        ),
        final=found.final,
        withheld=found.withheld.value if found.withheld else common_pb2.WITHHELD_REASON_UNSPECIFIED,
        rematch_state=write_rematch_state(found) if options.rematch_state else None,
        supersedes=found.supersedes,
        derivation=_write_worn(found.worn) if found.worn else None,
    )
    write_match(None if found.withheld else found.match, message)
    return message


def _write_worn(worn: Worn) -> orchestrator_pb2.ObjectDerivation:
    return orchestrator_pb2.ObjectDerivation(region=worn.region, source_label=worn.label, person_id=worn.person_id)


def _write_summary(summary: Summary) -> orchestrator_pb2.AnnotateSummary:
    return orchestrator_pb2.AnnotateSummary(
        video=summary.video,
        frames_sampled=summary.frames_sampled,
        frames_failed=summary.frames_failed,
        objects=summary.objects,
        objects_unmatched=summary.objects_unmatched,
        damaged_packets=summary.decoding.damaged_packets,
        truncated=summary.decoding.truncated,
        detection_models=summary.detection_models,
        embedder=summary.embedder,
        catalog_revision=summary.catalog_revision,
        elapsed=write_duration(summary.elapsed_s),
        stages=[
            orchestrator_pb2.StageTiming(
                stage=item.stage, busy=write_duration(item.busy_s), items=item.items, failed=item.failed
            )
            for item in summary.stages
        ],
        failures=summary.failures,
        objects_withheld=summary.objects_withheld,
        sensitive_ranges=map(write_sensitive_range, summary.sensitive_ranges),
        offers_opted_out=summary.opted_out,
        frames_dropped=summary.frames_dropped,
        objects_left_out=summary.objects_left_out,
    )


def _thumbnail(view: View, side: int) -> common_pb2.Image:
    picture = Image.fromarray(view.crop)
    picture.thumbnail((side, side))
    return write_jpeg(np.asarray(picture), quality=_THUMBNAIL_QUALITY)


def _write_box(box: Box) -> common_pb2.BoundingBox:
    return common_pb2.BoundingBox(left=box.left, top=box.top, right=box.right, bottom=box.bottom)
