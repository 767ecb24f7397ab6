"""Workloads that come with the program, and what every workload is given.  They see data only by reading it."""
