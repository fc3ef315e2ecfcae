"""Usage: the tokens and cost of each request, and the sums over time."""
