"""Changes of products as operations of a Qdrant server."""

from collections.abc import Sequence
from typing import Any

from qdrant_client import models

from shoppable.matcher.adapters import payload
from shoppable.matcher.names import point_id
from shoppable.matcher.ports import ProductChange, Space


def operations_of(changes: Sequence[ProductChange]) -> list[Any]:
    """Return what is to be done, in order."""
    fresh: list[models.PointStruct] = []
    kept: list[models.OverwritePayloadOperation] = []
    stale: list[Any] = []
    for change in changes:
        product_id = change.product.product_id
        stale.extend(point_id(product_id, image_id) for image_id in change.stale_image_ids)
        for point in change.points:
            identifier, values = point_id(product_id, point.image.image_id), payload.payload_of(change, point)
            if point.vectors is None:
                kept.append(
                    models.OverwritePayloadOperation(
                        overwrite_payload=models.SetPayload(payload=values, points=[identifier])
                    )
                )
            else:
                vectors: Any = {
                    Space.EMBEDDING.value: point.vectors.embedding.tolist(),
                    Space.COLOUR.value: point.vectors.colour.tolist(),
                }
                fresh.append(models.PointStruct(id=identifier, vector=vectors, payload=values))
    operations: list[Any] = [*kept]
    if fresh:
        operations.insert(0, models.UpsertOperation(upsert=models.PointsList(points=fresh)))
    if stale:
        operations.append(models.DeleteOperation(delete=models.PointIdsList(points=stale)))
    return operations
