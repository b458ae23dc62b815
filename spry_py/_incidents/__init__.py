"""Incidents told again from recorded spans; imports nothing of the rest."""
