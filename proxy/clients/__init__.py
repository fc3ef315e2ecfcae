"""Who asks: client keys, their budgets, sessions, and the sign-ins of admins."""
