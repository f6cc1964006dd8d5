"""Understanding adapters: what is in them, and what they change."""
