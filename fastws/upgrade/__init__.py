"""A new process of the new code takes the place of one that serves: what it inherits, and who says how it went."""
