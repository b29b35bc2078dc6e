"""Ways to make a right answer worse without a model, one family a file."""
