"""What runs on a compute node: agent, courier, data server, sandbox, launch of the ranks.

``agent`` and all it imports before the sandbox stands are standard library, ``cryptography`` and ours.
``runtime`` builds the one file that is put on a site.
"""
