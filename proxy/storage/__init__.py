"""Storage: records and logs on disk, and the tables in memory that are saved to them."""
