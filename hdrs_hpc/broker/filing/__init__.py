"""The one way in for documents: verify, judge, store, log."""
