"""hdrs-hpc: a job broker between hospitals' imaging archives and supercomputers."""

__version__ = "0.2.0"
