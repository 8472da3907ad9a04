"""Identity: users, projects, roles, tokens, catalogue (Keystone v3)."""
