"""``hdrs-hpc playground``: a broker with a project that stays, to learn with; made by the commands that people type."""
