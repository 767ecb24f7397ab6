"""Built-in trainings and measures, of kind ``torch``: examples to copy into a bundle of your own.

Each module has ``run(context)`` and uses only what the context gives.  What they share: ``parameters`` (fields and the
sizes of models), ``patches`` (which data), ``models``, ``fitting`` (the loop), ``writing``.
"""
