"""What broker and node must agree on: names on a site, hand-over messages, data socket, progress, outputs.

Pure.  Nothing here opens a socket or reads a file; both sides import it, neither owns it.  Each family of messages
carries a version of its own (``schema``; the data socket says it at its opening), so that one can change alone;
a broker and a runtime that disagree on one refuse each other there.
"""
