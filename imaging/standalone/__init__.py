"""Staged copies without a broker: a folder of one's own under a secret file.

``folder`` knows the secret, the keys and the folder; ``reading`` opens it as jobs see a copy; ``staging`` fills it
(imported where it is used, since it brings the whole engine).
"""

from imaging.standalone.folder import (
    PROJECT,
    SCHEMA,
    CopyExistsError,
    CopyFileError,
    NoContactSheetError,
    NotACopyError,
    NothingHeldError,
    SecretExistsError,
    SecretFileError,
    Verified,
    copy_key,
    deid_key,
    held_key,
    new_secret,
    open_copy,
    open_held,
    read_secret,
    verify,
)
from imaging.standalone.reading import StandaloneFolder, StandaloneStore, open_staged

__all__ = [
    "PROJECT",
    "SCHEMA",
    "CopyExistsError",
    "CopyFileError",
    "NoContactSheetError",
    "NotACopyError",
    "NothingHeldError",
    "SecretExistsError",
    "SecretFileError",
    "StandaloneFolder",
    "StandaloneStore",
    "Verified",
    "copy_key",
    "deid_key",
    "held_key",
    "new_secret",
    "open_copy",
    "open_held",
    "open_staged",
    "read_secret",
    "verify",
]
