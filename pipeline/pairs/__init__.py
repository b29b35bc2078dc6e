"""Preference pairs: read from and written to any of the formats people keep them in."""
