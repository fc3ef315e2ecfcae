"""Who answers: the accounts, their states and credentials, and the choice among them."""
