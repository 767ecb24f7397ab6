"""The one way in: documents that people signed, what comes along with them, and what is asked or done by name.

``accept`` files a document of any kind; each kind of ``documents/kinds.py`` has a module of its name here.
Whatever else web or an admin's command writes into the database goes through a module here too: ``uploads``,
``opt_out_change``, ``login``, ``cancellation``, ``fetching``, ``clusters``.
"""
