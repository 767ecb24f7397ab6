"""keyd: the small process that alone holds keys, and verifies by itself before it gives one."""
