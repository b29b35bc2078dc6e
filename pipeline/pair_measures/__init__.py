"""What can be measured of preference pairs without a model, block by block, kept as arrays over the rows."""
