"""One request: where it belongs, whom it is sent to, what the answer means, and what the client gets of it."""
