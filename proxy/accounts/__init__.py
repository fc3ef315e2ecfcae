"""Accounts: their states, credentials, cooldowns and quotas, and the choice of the next account."""
