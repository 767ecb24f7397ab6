"""A real Slurm cluster on one machine, thrown away after use.  Standard library only; needs root."""
