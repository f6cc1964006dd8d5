"""A library: all adapters below some folders, to be found, kept in order, taken in and shared."""
