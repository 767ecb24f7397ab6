"""One module a class of artefact: how it is parsed, what is repaired, how it is built anew."""
