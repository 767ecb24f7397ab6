"""The sealed store: authenticated ciphertext bound to its place, on storage that is not trusted.

``cipher`` turns bytes into a Tink streaming ciphertext, ``place`` says where an object belongs, ``manifest``
and ``journal`` remember which object is where, ``copy_builder`` writes a copy, ``reader`` reads one,
``zarr_store`` shows both to zarr, ``objects`` is the port to whatever carries the sealed bytes.

Everything but ``zarr_store`` needs only the standard library and ``cryptography``: the
node agent imports it before the sandbox is built.  The formats are written down in
``docs/formats/sealed-copy.md``.
"""
