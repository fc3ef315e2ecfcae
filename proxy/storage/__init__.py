"""What lasts: records and logs on disk, and the tables in memory that they follow."""
