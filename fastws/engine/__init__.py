"""Threads and connections: which are let in, whose turn it is, what a connection does next."""
