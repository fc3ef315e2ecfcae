"""What the program does instead of serving, by the flags of its command line."""
