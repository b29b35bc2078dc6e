"""Makes things: opens checkpoints and data, renders prompts, generates, trains. Judges nothing."""
