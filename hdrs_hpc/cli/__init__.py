"""The command line: one noun a file, imported only when used."""
