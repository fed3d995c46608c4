"""A web page on the live pool."""
