"""The commands of `python -m pipeline`, one module each: `add_parser` says what it takes, `run` does it."""
