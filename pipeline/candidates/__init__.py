"""Answers that may become the rejected side of a pair: made, measured, chosen."""
