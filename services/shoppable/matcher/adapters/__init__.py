"""One technology each: Triton for embedding, Qdrant in this process (Edge) or as a server for search."""
