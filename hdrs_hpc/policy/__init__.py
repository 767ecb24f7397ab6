"""Policy: pure rules over documents and facts.  The laptop applies the same ones as the broker."""
