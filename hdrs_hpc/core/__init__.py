"""Kinds of error, ids, strict JSON and YAML, the clock: what every other package may import."""
