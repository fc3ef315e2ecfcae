"""What was asked for: the settings, their types, and the client keys that a configuration declares."""
