"""Base models: their families' roles, plans over them, loading and exporting them."""
