"""How the broker reaches what is outside it: clusters that run jobs, sources that hold data."""
