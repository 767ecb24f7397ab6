"""What documents and the catalogue's declarations are made of: the strict model, and the words in it."""
