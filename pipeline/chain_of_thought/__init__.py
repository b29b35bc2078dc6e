"""Reasoning for answers that are known: a model writes it, and what ends in the known answer is kept."""
