"""Accounts as other programs keep them in files, and which of them can serve here."""
