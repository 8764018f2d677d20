"""What one configuration answers: ``respond(request) -> Decision``, and the same rules for replayed answers."""
