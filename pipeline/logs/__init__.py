"""Training logs of any program: one reader for each format, all of them into one `TrainingLog`."""
