"""The machinery of the twin: compiled state, events and buffers."""
