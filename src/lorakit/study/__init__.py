"""Studies: a question, cells that answer it, and a report with intervals."""
