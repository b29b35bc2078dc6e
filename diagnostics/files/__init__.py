"""Which files are there, whether they are whole, and whether they fit one another. Reads headers, runs nothing."""
