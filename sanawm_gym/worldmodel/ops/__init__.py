"""Operators of the network: one folder each, a readable reference beside the fast forms."""
