"""A made-up kind of workload, and the life of a job of that kind in a copy of the package that has it."""
