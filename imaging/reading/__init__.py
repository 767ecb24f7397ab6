"""Reading staged copies inside a job: ``open_staged("ct")`` gives index, volumes and slides, and never a key.

The process that reads holds no key and sees no sealed object.  It asks the node agent over a socket and finds the
plaintext in shared memory.  What is pickled, to a Dask worker for example, is a reference.
"""

from imaging.reading.staged import NoSuchItemError, StagedCopy, open_staged

__all__ = ["NoSuchItemError", "StagedCopy", "open_staged"]
