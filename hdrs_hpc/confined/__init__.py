"""One way to start a process that may not reach more than it needs: workloads, the airlock's checker, parsers.

``port`` says what such a process needs, ``bubblewrap``, ``apptainer`` and ``process_limits`` turn that into a command
line, ``running`` starts it, ``table`` says which of them gives which isolation where.  Standard library only: the
node's agent uses it before it has keys, and imaging without a broker.
"""
