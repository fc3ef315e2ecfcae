"""What admins see: views of all rooms with their revisions, the event log, health, the webhook."""
