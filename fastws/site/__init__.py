"""What one configuration answers: ``respond(request) -> Response``, and the same rules for replayed answers."""
