"""The version, in a module of its own so that the server can say it without importing the package's front."""

__version__ = "0.1.0"
