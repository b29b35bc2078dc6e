"""What a checkpoint writes, and the settings it is made to write with."""
