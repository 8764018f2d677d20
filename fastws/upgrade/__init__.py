"""A new process of the new code takes the place of one that serves: what it inherits, and who says how it went."""

VARIABLE = "FASTWS_UPGRADE"
"""The environment variable that holds the descriptor of the new process's end of the channel."""
