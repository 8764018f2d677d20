"""From a path to the bytes of one form: confined open, identity, tag, coding, directory."""
