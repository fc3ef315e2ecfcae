"""What answers: one exchange with the Claude API, and what its answer means."""
