"""The web process: files documents and reads views, nothing else.  It holds no key and moves no state."""
