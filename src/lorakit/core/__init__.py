"""Low-rank updates on any torch model: plans, sites, routing, merging. Imports torch alone."""
