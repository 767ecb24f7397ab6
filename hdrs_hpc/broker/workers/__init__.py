"""Long work in processes of its own: staging, choosing, collecting, checking."""
