"""The machinery of the twin: compilation, structs by address, threads and buffers. It knows nothing of Prefect."""
