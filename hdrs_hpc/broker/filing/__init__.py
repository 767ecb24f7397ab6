"""The one way in: documents that people signed, what comes along with them, and what is asked or done by name.

``accept`` files a document of any kind; ``kinds`` is the table from a kind to its module, one module each.
Whatever else web or an admin's command writes into the database goes through a module here too: ``bundles``,
``opt_out``, ``login``, ``cancellation``, ``fetching``, ``clusters``.
"""
