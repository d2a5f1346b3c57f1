"""Who may ask what, and how often: keys, roles, rates."""
