"""Judges things: checks, findings, causes, reports. Starts no process and changes nothing it looks at."""

__version__ = "0.1.0"
