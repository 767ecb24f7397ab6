"""What varies, each variant in a file of its own and with one row in one table; nothing here does I/O."""
