"""What makes the twin fast: compilation, structs by address, threads, heaps, random numbers, buffers.

Nothing here knows of Prefect; the model of Prefect is in `twin.model`.
"""
