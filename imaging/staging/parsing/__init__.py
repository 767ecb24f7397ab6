"""What runs inside the parser process, on bytes that nobody has vouched for."""
