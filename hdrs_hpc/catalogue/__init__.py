"""What varies: each variant is one module and one row in one table.  Pure; most of it is standard library only."""
