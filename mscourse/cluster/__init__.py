"""Clusters of several machines: what they are to be, and the command that handles them."""
