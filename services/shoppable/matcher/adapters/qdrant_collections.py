"""How collections are made and searched on a Qdrant server, as far as its operator chooses."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qdrant_client import models

_QUANTIZATIONS: dict[str, models.QuantizationConfig] = {
    # A quarter of the memory; the outermost hundredth of the values is cut to the range of the others.
    "scalar": models.ScalarQuantization(
        scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.99, always_ram=True)
    ),
    # A thirty-second of it.
    "binary": models.BinaryQuantization(binary=models.BinaryQuantizationConfig(always_ram=True)),
}


@dataclass(frozen=True)
class CollectionOptions:
    """How catalogues' collections are made, and how they are searched."""

    shards: int = 1
    replicas: int = 1
    on_disk: bool = False  # whether full vectors and the graph stay on disk; quantized ones are in memory
    quantization: str = "none"  # or "scalar", "binary"
    oversampling: float = 2.0  # how many times as many quantized vectors are compared again in full
    hnsw_m: int = 16
    hnsw_ef_construct: int = 100
    hnsw_ef: int | None = None  # of searches; None: as of building

    def of_collection(self, sizes: Mapping[str, int]) -> dict[str, Any]:
        """Return what makes a collection of cosine vectors of these names and sizes."""
        vectors = {
            name: models.VectorParams(size=size, distance=models.Distance.COSINE, on_disk=self.on_disk or None)
            for name, size in sizes.items()
        }
        return {
            "vectors_config": vectors,
            "shard_number": self.shards,
            "replication_factor": self.replicas,
            "hnsw_config": models.HnswConfigDiff(
                m=self.hnsw_m, ef_construct=self.hnsw_ef_construct, on_disk=self.on_disk or None
            ),
            "quantization_config": _QUANTIZATIONS.get(self.quantization),
        }

    def of_search(self) -> models.SearchParams:
        """Return how a search goes: found among quantized vectors, ordered by full ones."""
        quantization = None
        if self.quantization != "none":
            quantization = models.QuantizationSearchParams(rescore=True, oversampling=self.oversampling)
        return models.SearchParams(hnsw_ef=self.hnsw_ef, quantization=quantization)
