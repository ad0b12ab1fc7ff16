"""What load is made of: for every RPC the requests of one call, and how hard it is asked for.

ghz and k6 both read what `write` makes of it: requests as JSON, in which `{{.RequestNumber}}` is the number of the
call. A test holds that no RPC of the descriptors is left out.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.descriptor import FileDescriptor, MethodDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from shoppable.v1 import (
    common_pb2,
    frame_decoder_pb2,
    object_detector_pb2,
    orchestrator_pb2,
    product_catalog_pb2,
    product_matcher_pb2,
    server_info_pb2,
)

CATALOG = "catalogs/sample"
CHANGED = "catalogs/changed"  # whose products come and go
LABELLED = "catalogs/labelled"  # that is calibrated again and again
NUMBER = "{{.RequestNumber}}"
FEW, SOME, MANY = (1, 4, 16), (1, 2, 4, 8, 16), (1, 2, 4, 8, 16, 32)
_CHUNK = 256 * 1024
# Which process answers for the RPCs of a file.
SERVERS: dict[str, FileDescriptor] = {
    "decoder": frame_decoder_pb2.DESCRIPTOR,
    "detector": object_detector_pb2.DESCRIPTOR,
    "matcher": product_matcher_pb2.DESCRIPTOR,
    "matcher (catalogues)": product_catalog_pb2.DESCRIPTOR,
    "orchestrator": orchestrator_pb2.DESCRIPTOR,
    "orchestrator (server info)": server_info_pb2.DESCRIPTOR,
}


@dataclass(frozen=True)
class Material:
    """What the requests are made of.

    Attributes:
        film_uri: A film that the decoder may read, of two seconds or more.
        film: A film as a file, MPEG-TS or fragmented, of a second or more.
        picture: A photo of one thing, JPEG.
        frame: A frame of the film, JPEG.
        product_id: A product of CATALOG and of LABELLED, and what `picture` shows.
        found: Objects of an annotation with their rematch state.
    """

    film_uri: str
    film: bytes
    picture: bytes
    frame: bytes
    product_id: str
    found: Sequence[orchestrator_pb2.RematchObject]


@dataclass(frozen=True)
class Load:
    """How one RPC is asked for.

    Attributes:
        requests: Of one call, in order; exactly one unless the RPC takes a stream.
        what: What a call is, in a few words.
        steps: How many calls are in work at a time, one step after the other.
        calls: Most calls of a step, where each uses up something; else as many as the step's time allows.
        mixed_per_min: How often it is asked for in mixed traffic.
    """

    requests: Sequence[Message]
    what: str
    steps: Sequence[int] = FEW
    calls: int | None = None
    mixed_per_min: int = 30


def methods() -> Iterator[tuple[str, MethodDescriptor]]:
    """Yield every RPC of the suite, with the process that answers."""
    for server, file in SERVERS.items():
        for service in file.services_by_name.values():
            for method in service.methods:
                yield server.partition(" ")[0], method


def loads(material: Material) -> dict[str, Load]:
    """Return the load of every RPC by its full name, in the order in which a sweep takes them."""
    return {
        f"shoppable.v1.{name}": load
        for group in (_decoder, _detector, _matcher, _catalogs, _orchestrator)
        for name, load in group(material).items()
    }


def _decoder(material: Material) -> dict[str, Load]:
    config = frame_decoder_pb2.DecodeFramesConfig(
        source=common_pb2.VideoSource(upload=common_pb2.VideoUpload(total_bytes=len(material.film))),
        end_time={"seconds": 1}, longest_side=640, output_format=common_pb2.IMAGE_FORMAT_JPEG,
    )  # fmt: skip
    chunks = [material.film[start : start + _CHUNK] for start in range(0, len(material.film), _CHUNK)]
    return {
        "FrameDecoderService.ProbeVideo": Load(
            [frame_decoder_pb2.ProbeVideoRequest(source={"uri": material.film_uri})], "the sample film by URI", MANY
        ),
        "FrameDecoderService.DecodeFrames": Load(
            [
                frame_decoder_pb2.DecodeFramesRequest(config=config),
                *(frame_decoder_pb2.DecodeFramesRequest(chunk=chunk) for chunk in chunks),
            ],
            "a second of film uploaded, 5 JPEG frames back",
            MANY,
        ),
    }


def _detector(material: Material) -> dict[str, Load]:
    frame = common_pb2.Image(data=material.frame)
    options = object_detector_pb2.DetectionOptions()
    return {
        "ObjectDetectorService.DetectObjects": Load(
            [object_detector_pb2.DetectObjectsRequest(images=[frame])],
            "one JPEG frame, both models",
            MANY,
            mixed_per_min=60,
        ),
        "ObjectDetectorService.StreamDetectObjects": Load(
            [
                object_detector_pb2.StreamDetectObjectsRequest(config=options),
                *(
                    object_detector_pb2.StreamDetectObjectsRequest(frame={"frame_id": number, "image": frame})
                    for number in range(4)
                ),
            ],
            "four JPEG frames",
            (1, 2, 4, 8),
        ),
        "ObjectDetectorService.ListDetectionModels": Load([object_detector_pb2.ListDetectionModelsRequest()], "all"),
        "ObjectDetectorService.GetDetectionModel": Load(
            [object_detector_pb2.GetDetectionModelRequest(name="detector_coco")], "one model"
        ),
        "ObjectDetectorService.ListCategories": Load([object_detector_pb2.ListCategoriesRequest()], "all"),
    }


def _matcher(material: Material) -> dict[str, Load]:
    request = product_matcher_pb2.MatchProductsRequest(catalog=CATALOG)
    request.queries.add().views.add(image=common_pb2.Image(data=material.picture))
    words = product_matcher_pb2.SearchProductsRequest(catalog=CATALOG, text="teal mug")
    return {
        "ProductMatcherService.MatchProducts": Load([request], "one photo", MANY, mixed_per_min=60),
        "ProductMatcherService.SearchProducts": Load([words], "two words", MANY, mixed_per_min=60),
    }


def _catalogs(material: Material) -> dict[str, Load]:
    picture = common_pb2.Image(data=material.picture)
    new = product_catalog_pb2.Product(title="New", images=[product_catalog_pb2.ReferenceImage(image=picture)])
    config = product_catalog_pb2.UpsertProductsConfig(catalog=CHANGED)
    upsert = product_catalog_pb2.ProductUpsert(row=1, product=new, product_id=f"new-{NUMBER}")
    made_by = product_catalog_pb2.Catalog(embedder={"name": "embedder", "version": "1"}, embedding_size=1280)
    header = product_catalog_pb2.SnapshotHeader(format=1, catalog=made_by, rooted=True)
    thing = product_catalog_pb2.LabelledThing(row=1, views=[picture], product_id=material.product_id)
    return {
        "ProductCatalogService.CreateCatalog": Load(
            [product_catalog_pb2.CreateCatalogRequest(catalog_id=f"new-{NUMBER}")], "a new one", calls=20
        ),
        "ProductCatalogService.GetCatalog": Load([product_catalog_pb2.GetCatalogRequest(name=CATALOG)], "one"),
        "ProductCatalogService.ListCatalogs": Load([product_catalog_pb2.ListCatalogsRequest()], "all, some twenty"),
        "ProductCatalogService.DeleteCatalog": Load(
            [product_catalog_pb2.DeleteCatalogRequest(name=f"catalogs/new-{NUMBER}")], "an empty one", calls=20
        ),
        "ProductCatalogService.UpsertProducts": Load(
            [
                product_catalog_pb2.UpsertProductsRequest(config=config),
                product_catalog_pb2.UpsertProductsRequest(upsert=upsert),
            ],
            "a stream of one new product with a photo",
            calls=48,
        ),
        "ProductCatalogService.GetProduct": Load(
            [product_catalog_pb2.GetProductRequest(name=f"{CATALOG}/products/{material.product_id}")],
            "one",
            MANY,
            mixed_per_min=300,
        ),
        "ProductCatalogService.ListProducts": Load(
            [product_catalog_pb2.ListProductsRequest(parent=CATALOG)], "a page of 33"
        ),
        "ProductCatalogService.DeleteProduct": Load(
            [product_catalog_pb2.DeleteProductRequest(name=f"{CHANGED}/products/new-{NUMBER}")], "one", calls=48
        ),
        "ProductCatalogService.CalibrateCatalog": Load(
            [
                product_catalog_pb2.CalibrateCatalogRequest(config={"catalog": LABELLED}),
                product_catalog_pb2.CalibrateCatalogRequest(thing=thing),
                product_catalog_pb2.CalibrateCatalogRequest(commit={"count": 1}),
            ],
            "by one labelled photo",
        ),
        "ProductCatalogService.FindDuplicates": Load(
            [product_catalog_pb2.FindDuplicatesRequest(parent=CATALOG)], "in 33 products"
        ),
        "ProductCatalogService.BackupCatalog": Load(
            [product_catalog_pb2.BackupCatalogRequest(name=CATALOG)], "of 33 products"
        ),
        "ProductCatalogService.RestoreCatalog": Load(
            [
                product_catalog_pb2.RestoreCatalogRequest(
                    config={"catalog": f"catalogs/restored-{NUMBER}", "replace": True}
                ),
                product_catalog_pb2.RestoreCatalogRequest(record={"header": header}),
                product_catalog_pb2.RestoreCatalogRequest(record={"end": {}}),
            ],
            "an empty one",
            calls=20,
        ),
    }


def _orchestrator(material: Material) -> dict[str, Load]:
    source = common_pb2.VideoSource(uri=material.film_uri)
    options = orchestrator_pb2.AnnotateOptions(catalog=CATALOG, end_time={"seconds": 1}, omit_thumbnails=True)
    config = orchestrator_pb2.AnnotateConfig(source=source, options=options)
    return {
        "OrchestratorService.AnnotateVideo": Load(
            [orchestrator_pb2.AnnotateVideoRequest(source=source, options=options)], "a second of the sample film", SOME
        ),
        "OrchestratorService.StreamAnnotateVideo": Load(
            [orchestrator_pb2.StreamAnnotateVideoRequest(config=config)], "a second of the sample film", (1, 4)
        ),
        "OrchestratorService.RematchProducts": Load(
            [orchestrator_pb2.RematchProductsRequest(objects=material.found, catalog=CATALOG)],
            f"{len(material.found)} objects",
        ),
        "ServerInfoService.GetServerInfo": Load([server_info_pb2.GetServerInfoRequest()], "nothing to do", MANY),
    }


def as_json(load: Load, method: MethodDescriptor) -> str:
    """Return a call's requests as ghz and k6 take them: one object, or for a stream the list of them."""
    requests = [MessageToDict(request) for request in load.requests]
    return json.dumps(requests if method.client_streaming else requests[0])


def write(folder: Path, material: Material) -> None:
    """Write what ghz and k6 need into `folder`: a file of requests for each RPC, and `rpcs.json` that lists them."""
    every = loads(material)
    rpcs = []
    for server, method in methods():
        load = every[method.full_name]
        (folder / f"{method.name}.json").write_text(as_json(load, method))
        rpcs.append(
            {
                "name": method.name,
                "path": f"{method.containing_service.full_name}/{method.name}",
                "server": server,
                "streams": method.client_streaming or method.server_streaming,
                "client_streams": method.client_streaming,
                "calls": load.calls,
                "mixed_per_min": load.mixed_per_min,
            }
        )
    (folder / "rpcs.json").write_text(json.dumps(rpcs, indent=1))
