"""What people may see of the broker, read and never written."""
