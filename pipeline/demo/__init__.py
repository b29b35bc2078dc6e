"""Tiny real models, healthy and sick, trained here in about a minute: something to diagnose without a download."""
