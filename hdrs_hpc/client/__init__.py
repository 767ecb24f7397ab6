"""What runs on the laptop: checking, drafting and signing documents, and talking to a broker."""
