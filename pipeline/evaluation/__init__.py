"""Did it help? Rewards of answers, answers before and after a training, bad cases replayed, abilities kept."""
