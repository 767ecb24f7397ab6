"""The airlock: what may leave is identified by content, parsed strictly, repaired, and built anew.

``check`` is pure (bytes in, :class:`~hdrs_hpc.broker.workers.airlock.check.Checked` out); ``checker`` runs it in a
process of its own without keys, and ``run`` starts that process, in a sandbox where the machine has one.
"""
