"""``hdrs-hpc try``: a job's own code, sandbox, limits and output check on this machine, on made-up data."""
