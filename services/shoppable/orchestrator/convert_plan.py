"""A plan as a message."""

from shoppable.orchestrator.convert_offers import write_duration
from shoppable.orchestrator.planning import STAGES, Plan
from shoppable.v1 import orchestrator_pb2


def write_plan(plan: Plan) -> orchestrator_pb2.AnnotatePlan:
    """Return a plan as a message; what is not known is absent."""
    items = {"decode": plan.frames_to_decode, "detect": plan.frames_to_sample, "match": None}
    return orchestrator_pb2.AnnotatePlan(
        video=plan.video,
        frames_to_sample=plan.frames_to_sample,
        frames_to_decode=plan.frames_to_decode,
        expected_time=None if plan.expected_s is None else write_duration(plan.expected_s),
        expected_time_basis=plan.basis,
        stages=[
            orchestrator_pb2.StagePlan(
                stage=stage,
                items=items[stage],
                busy=write_duration(plan.stages_s[stage]) if stage in plan.stages_s else None,
            )
            for stage in STAGES
        ],
        limits=[
            orchestrator_pb2.LimitUse(service=use.service, name=use.name, unit=use.unit, limit=use.limit, used=use.used)
            for use in plan.limits
        ],
        offers=plan.offers,
        excluded_categories=plan.excluded_categories,
    )
