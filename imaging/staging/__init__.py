"""From an archive to a de-identified, minimised, sealed copy; runs in the data zone."""
