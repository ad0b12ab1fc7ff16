"""Before the work and after it: what a plan says and what it finds wrong, and products found again without a film."""

import asyncio
import time
from pathlib import Path

import grpc
import pytest

from shoppable.client import CatalogClient, OrchestratorClient, ShoppableError, open_channel
from shoppable.v1 import common_pb2, orchestrator_pb2, product_catalog_pb2
from support.catalogs import CATALOG, sample_upserts
from support.film_truth import seconds

Options = orchestrator_pb2.AnnotateOptions
RED_ONES = product_catalog_pb2.ProductFilter(attributes=[{"key": "color", "values": ["red", "teal", "grey"]}])
COPY = "catalogs/before-and-after"


def film(samples: Path) -> common_pb2.VideoSource:
    return common_pb2.VideoSource(uri=(samples / "film.mp4").as_uri())


@pytest.fixture
async def client(suite):
    async with open_channel(suite.endpoints["orchestrator"]) as channel:
        yield OrchestratorClient(channel)


SAMPLING = common_pb2.FrameSampling(frames_per_second=2.5)
WANTED = Options(catalog=CATALOG, sampling=SAMPLING, include_rematch_state=True, omit_thumbnails=True)


@pytest.fixture(scope="module")
def annotated(suite, samples: Path) -> orchestrator_pb2.AnnotateVideoResponse:
    """The film's objects with what finding their products again needs."""

    async def annotate() -> orchestrator_pb2.AnnotateVideoResponse:
        async with open_channel(suite.endpoints["orchestrator"]) as channel:
            return await OrchestratorClient(channel).annotate(film(samples), WANTED, timeout_s=100)

    return asyncio.run(annotate())


async def upsert(suite, samples: Path, *, but: int = 0) -> None:
    """Store the sample products in a catalogue of our own, all but some."""

    async def products():
        for row in sample_upserts(samples)[but:]:
            yield row

    config = product_catalog_pb2.UpsertProductsConfig(catalog=COPY, create_catalog_if_missing=True)
    async with open_channel(suite.endpoints["matcher"]) as channel:
        async for response in CatalogClient(channel).upsert_products(config, products()):
            assert response.result.outcome != product_catalog_pb2.UPSERT_OUTCOME_FAILED


def products_of(items) -> dict[str, list[tuple[str, float, int]]]:
    """What is offered, by object, with confidences."""
    return {
        item.object_id: [(product.product.name, product.confidence, product.decision) for product in item.products]
        for item in items
    }


def again(objects, **fields) -> orchestrator_pb2.RematchProductsRequest:
    return orchestrator_pb2.RematchProductsRequest(
        objects=[{"object_id": item.object_id, "state": item.rematch_state} for item in objects],
        **({"catalog": CATALOG} | fields),
    )


async def test_a_plan_says_what_the_call_does(client, samples: Path, annotated):
    answer = annotated
    plan = await client.plan(film(samples), WANTED, timeout_s=20)
    assert plan.video == answer.summary.video
    assert plan.frames_to_sample == answer.summary.frames_sampled
    assert plan.expected_time_basis >= 1
    # Foretold by what videos cost before, on a machine that has other things to do: the order of magnitude.
    assert 0.1 < seconds(plan.expected_time) / seconds(answer.summary.elapsed) < 10
    assert [stage.stage for stage in plan.stages] == ["decode", "detect", "match"]
    assert all(stage.HasField("busy") for stage in plan.stages)
    used = {use.name: (use.used, use.limit) for use in plan.limits if use.service == "frame decoder"}
    assert used["frame_pixels"][0] == 640 * 360
    assert used["file_bytes"][0] == (samples / "film.mp4").stat().st_size
    assert used["video_seconds"][0] == 14
    assert all(0 < taken <= limit for taken, limit in used.values())
    assert plan.offers


async def test_a_plan_of_a_span_of_each_kind_of_sampling(client, samples: Path):
    def wanted(**sampling) -> Options:
        options = Options(sampling=common_pb2.FrameSampling(**sampling))
        options.start_time.FromSeconds(2)
        options.end_time.FromSeconds(4)
        return options

    for sampling in ({"frames_per_second": 3.0}, {"every_nth_frame": 7}):
        plan = await client.plan(film(samples), wanted(**sampling))
        answer = await client.annotate(film(samples), wanted(**sampling), timeout_s=60)
        assert abs(plan.frames_to_sample - answer.summary.frames_sampled) <= 1, sampling
    keyframes = await client.plan(film(samples), wanted(keyframes_only=common_pb2.KeyframeSampling()))
    assert not keyframes.HasField("frames_to_sample")
    assert not keyframes.HasField("expected_time")


async def test_a_plan_of_an_upload_says_what_is_known_without_its_bytes(client, samples: Path):
    path = samples / "film.mp4"
    plan = await client.plan(path, Options(catalog=CATALOG))
    assert not plan.HasField("video")
    assert not plan.HasField("frames_to_sample")
    (use,) = plan.limits
    assert (use.name, use.used) == ("upload_bytes", path.stat().st_size)
    huge = common_pb2.VideoSource(upload=common_pb2.VideoUpload(total_bytes=2**60))
    with pytest.raises(ShoppableError) as caught:
        await client.plan(huge)
    assert [item.field for item in caught.value.violations] == ["source.upload.total_bytes"]


async def test_a_plan_names_everything_that_is_wrong_whoever_knows_it(client):
    wanted = Options(
        catalog=CATALOG,
        longest_side=3,
        detection_models=["detector_coco", "nothing"],
        categories=["nothing-like-it"],
        offers=orchestrator_pb2.OfferOptions(excluded_categories=["toys", "weaponz"]),
        product_filter=product_catalog_pb2.ProductFilter(attributes=[{"key": "flavour", "values": ["x"]}]),
    )
    with pytest.raises(ShoppableError) as caught:
        await client.plan(common_pb2.VideoSource(uri="file:///nowhere/film.mp4"), wanted)
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert {item.field for item in caught.value.violations} == {
        "source",
        "options.longest_side",
        "options.detection_models[1]",
        "options.categories[0]",
        "options.offers.excluded_categories[1]",
        "options.product_filter.attributes[0].key",
    }


async def test_one_thing_that_is_wrong_is_said_as_the_call_itself_says_it(client, samples: Path):
    for wanted, kind in (
        (Options(catalog="catalogs/nowhere"), "catalog"),
        (Options(detection_models=["nothing"]), "detection model"),
    ):
        with pytest.raises(ShoppableError) as planned:
            await client.plan(film(samples), wanted)
        with pytest.raises(ShoppableError) as called:
            await client.annotate(film(samples), wanted, timeout_s=30)
        assert planned.value.code is called.value.code is grpc.StatusCode.NOT_FOUND
        assert planned.value.resource_type == called.value.resource_type == kind


async def test_the_same_video_and_settings_give_the_same_answer(client, samples: Path, annotated):
    once_more = await client.annotate(film(samples), WANTED, timeout_s=100)
    assert list(once_more.objects) == list(annotated.objects)


async def test_products_found_again_are_those_of_a_new_run_after_the_catalogue_changed(suite, client, samples: Path):
    await upsert(suite, samples, but=4)
    wanted = Options(catalog=COPY, sampling=SAMPLING, include_rematch_state=True, omit_thumbnails=True)
    before = await client.annotate(film(samples), wanted, timeout_s=100)
    await upsert(suite, samples)
    started = time.perf_counter()
    found = await client.rematch(again(before.objects, catalog=COPY), timeout_s=30)
    took_s = time.perf_counter() - started
    after = await client.annotate(film(samples), wanted, timeout_s=100)
    assert products_of(found.objects) == products_of(after.objects)
    assert products_of(found.objects) != products_of(before.objects)
    judged = lambda items: {item.object_id: (item.decision, item.confidence) for item in items}
    assert judged(found.objects) == judged(after.objects)
    assert found.catalog_revision == after.summary.catalog_revision
    assert found.embedder == after.summary.embedder
    # No film, no inference: a small part of the time of the annotation on any machine.
    assert took_s < seconds(after.summary.elapsed) / 5
    print(
        f"rematch of {len(found.objects)} objects: {took_s * 1e3:.0f} ms; anew: {seconds(after.summary.elapsed):.1f} s"
    )


async def test_products_found_again_under_other_filters_are_those_of_a_run_with_them(client, samples: Path, annotated):
    narrower = {
        "product_filter": RED_ONES,
        "max_products_per_object": 2,
        "min_product_confidence": 0.05,
        "match_confidence": 0.9,
        "offers": {"excluded_categories": ["toys"], "min_area": 0.03},
    }
    narrow = Options(catalog=CATALOG, sampling=SAMPLING, omit_thumbnails=True, **narrower)
    after = await client.annotate(film(samples), narrow, timeout_s=100)
    found = await client.rematch(again(annotated.objects, **narrower))
    key = lambda items: {
        item.object_id: (item.decision, item.withheld, [product.product.name for product in item.products])
        for item in items
    }
    assert {item.withheld for item in found.objects} >= {
        common_pb2.WITHHELD_REASON_EXCLUDED_CATEGORY,
        common_pb2.WITHHELD_REASON_UNSPECIFIED,
    }
    assert key(found.objects) == key(after.objects)


async def test_views_of_another_embedder_or_of_nothing_are_refused(client, annotated):
    item = annotated.objects[0]

    async def refusal(change) -> ShoppableError:
        copy = orchestrator_pb2.ShoppableObject()
        copy.CopyFrom(item)
        change(copy.rematch_state)
        with pytest.raises(ShoppableError) as caught:
            await client.rematch(again([copy, item]))
        return caught.value

    other = await refusal(lambda state: setattr(state.views[0].model, "version", "0"))
    assert (other.code, other.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "EMBEDDER_MISMATCH")
    assert "annotate" in other.message
    changes = {
        "version": lambda state: setattr(state, "version", 2),
        "area": lambda state: setattr(state, "area", float("nan")),
        "seen": lambda state: state.seen.FromSeconds(-1),
        "withheld": lambda state: setattr(state, "withheld", 99),
        "category": lambda state: setattr(state, "category", "x" * 201),
        "views[1].values": lambda state: state.views[1].values.pop(),
        "views": lambda state: state.views.extend([state.views[0]] * 9),
        "views[0].values": lambda state: state.views[0].values.append(float("inf")),
        "views[0].colors": lambda state: state.views[0].colors.append(1.0),
    }
    for field, change in changes.items():
        refused = await refusal(change)
        assert refused.code is grpc.StatusCode.INVALID_ARGUMENT, field
        assert f"objects[0].state.{field}" in {one.field for one in refused.violations}, (field, refused)
    with pytest.raises(ShoppableError) as caught:
        await client.rematch(orchestrator_pb2.RematchProductsRequest(objects=[{}], max_products_per_object=0))
    assert {one.field for one in caught.value.violations} == {
        "catalog", "objects[0].state", "max_products_per_object"
    }  # fmt: skip


async def test_an_object_that_was_not_embedded_says_what_to_do(client):
    state = orchestrator_pb2.RematchState(version=1, category="toys", area=0.5, seen={"seconds": 3})
    request = orchestrator_pb2.RematchProductsRequest(catalog=CATALOG, objects=[{"object_id": "o", "state": state}])
    (found,) = (await client.rematch(request)).objects
    assert found.match_status.code == grpc.StatusCode.FAILED_PRECONDITION.value[0]
    assert ShoppableError.from_status(found.match_status).reason == "NO_VIEWS"
