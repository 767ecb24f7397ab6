"""The demo: a made-up hospital, people who act only through the commands, and a search for what leaked."""
