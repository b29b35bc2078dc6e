"""Checks of preference pairs and supervised rows."""
