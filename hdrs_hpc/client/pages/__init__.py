"""Pages that a person reads before signing: one module for each kind of document, from its model to plain words."""
