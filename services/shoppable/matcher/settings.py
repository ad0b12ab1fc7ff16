"""All that can be set on the product matcher."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, SecretStr

from shoppable.runtime.settings import Names
from shoppable.runtime.triton_connection import TritonSettings


class MatcherSettings(TritonSettings):
    """Settings of the product matcher."""

    service: ClassVar[str] = "matcher"

    port: int = Field(50053, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    embedder_model: str = Field("embedder", description="name of the model on Triton that embeds pictures")
    other_embedder_models: Names = Field(
        (),
        description="models on Triton by which older catalogues were made, a,b,c: these are searched until reindexed",
    )
    embed_timeout_s: float = Field(30.0, gt=0, description="seconds that one inference may take")
    embeds_in_flight: int = Field(
        8,
        ge=1,
        description="pictures at Triton at a time, one a request; 4 times its instances on a CPU,"
        " twice its batch size on a GPU",
    )
    index: Literal["edge", "server"] = Field(
        "edge", description="where pictures are indexed: edge = Qdrant in this process, server = a Qdrant server"
    )
    data_dir: Path = Field(
        Path("data/matcher"), description="folder of the catalogues, with index=edge; one process owns it"
    )
    qdrant_endpoint: str = Field("127.0.0.1:6334", description="the Qdrant server's gRPC address, with index=server")
    qdrant_api_key: SecretStr | None = Field(None, description="the Qdrant server's API key")
    qdrant_tls: bool = Field(False, description="whether the Qdrant server speaks TLS; a key needs it on a network")
    qdrant_prefix: str = Field(
        "shoppable", pattern=r"^[a-z][a-z0-9-]{0,62}$", description="first part of our collections' names"
    )
    qdrant_shards: int = Field(1, ge=1, description="shards of a new catalogue's collection")
    qdrant_replicas: int = Field(1, ge=1, description="replicas of a new catalogue's collection; 3 survive a node")
    qdrant_on_disk: bool = Field(
        False,
        description="whether a new collection keeps full vectors and graph on disk; quantized ones are in memory",
    )
    qdrant_quantization: Literal["none", "scalar", "binary"] = Field(
        "none", description="how a new collection's vectors are kept in memory as well: in 8 bits a number, or in one"
    )
    qdrant_oversampling: float = Field(
        2.0, ge=1, le=100, description="quantized vectors that are compared again in full, as a multiple of the answer"
    )
    qdrant_hnsw_m: int = Field(16, ge=4, le=128, description="edges of a node in a new collection's graph")
    qdrant_hnsw_ef_construct: int = Field(100, ge=4, le=10_000, description="candidates when a graph is built")
    qdrant_hnsw_ef: int | None = Field(
        None, ge=4, le=10_000, description="candidates when a graph is searched; unset: as when it was built"
    )
    index_timeout_s: float = Field(10.0, gt=0, description="seconds that one operation on the index may take")
    decode_threads: int = Field(2, ge=1, description="threads that decode pictures")
    max_image_pixels: int = Field(36_000_000, ge=4096, description="most pixels of a picture")
    max_queries: int = Field(64, ge=1, description="most things in one MatchProducts call")
    queries_in_work: int = Field(8, ge=1, description="things of one call that are looked up at a time")
    max_attribute_keys: int = Field(
        128, ge=1, description="most different attributes that the products of one catalogue carry"
    )
    upserts_in_work: int = Field(32, ge=1, description="products of one stream in work at a time")
    upsert_bytes_in_work: int = Field(
        64 * 2**20, ge=1, description="bytes of their pictures; one product is taken whatever its size"
    )
    upsert_batch: int = Field(32, ge=1, description="most products in one write to the index")
    min_revision_wait_s: float = Field(
        10.0, ge=0, description="seconds that a search waits for min_revision, if its deadline allows"
    )
