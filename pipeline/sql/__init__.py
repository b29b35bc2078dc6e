"""SQL answers: parsed, brought to a normal form, run read-only and compared by their results."""
