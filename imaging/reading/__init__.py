"""Reading staged copies: ``open_staged("ct")`` inside a job gives index, volumes and slides, and never a key.

The process that reads holds no key and sees no sealed object.  It asks the node agent over a socket and finds the
plaintext in shared memory.  What is pickled, to a Dask worker for example, is a reference.  Outside a job
``imaging.standalone.open_staged`` gives the same object over a copy in a folder.

``imaging.reading.torch_data`` has the datasets for PyTorch; nothing else here needs torch, and only
``StagedCopy.xarray`` and ``StagedCopy.datatree`` need xarray.
"""

from imaging.reading.geometry import Geometry
from imaging.reading.in_job import open_staged
from imaging.reading.splits import split_by_patient
from imaging.reading.staged import NoSuchItemError, StagedCopy

__all__ = ["Geometry", "NoSuchItemError", "StagedCopy", "open_staged", "split_by_patient"]
