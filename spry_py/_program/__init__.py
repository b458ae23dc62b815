"""Whole programs: `run`, its signals, the command line."""
