"""The benchmark that anyone can run: us and our peers in turn, on data made of real pixels.

``table`` lists the cases; each file in ``cases`` says what is compared and what the goal is; ``data`` makes what
they read; ``contenders`` holds the programs that are timed, ours and others', each a process of its own;
``measure`` runs one, ``running`` runs them in turn, ``results`` is what comes out, ``show``, ``figures`` and
``page`` show it.  Nothing in the product imports this package but ``hdrs_hpc.cli.bench``.
"""
