"""The node runtime: one pinned tar with interpreter, libraries and our code; built where the broker is."""
