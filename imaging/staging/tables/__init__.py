"""Linked tables (labels, outcomes, demographics): CSV or Parquet → minimised, pseudonymised Parquet."""
