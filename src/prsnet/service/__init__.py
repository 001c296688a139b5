"""A gallery over HTTP."""
