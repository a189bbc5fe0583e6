"""Pretend machines, to try what happens when real ones fail."""
