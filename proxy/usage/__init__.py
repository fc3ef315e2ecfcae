"""What it came to: what each request used and cost, and the sums over time."""
