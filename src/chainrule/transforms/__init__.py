"""Readings of the recorded graph that give derivatives. They know no operation by name."""
