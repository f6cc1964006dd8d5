"""The metrics of benchmarks: one file each, pure functions of answers and references."""
