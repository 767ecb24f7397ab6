"""A job with an output of a made-up class, in a copy of the package that has the class."""
