"""``ws.conf``, the command line and a program's own values become one frozen Config, or every error at once."""
