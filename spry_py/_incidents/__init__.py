"""Recorded spans, shown as incidents; imports nothing of the rest."""
