"""The data behind the dashboard: topics with their revisions, the event log, health, the webhook."""
