"""Answers of a loaded model, many at a time: finished ones leave the batch and others take their place."""
