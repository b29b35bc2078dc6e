"""Training runs: recipes, data, jobs, trainers."""
