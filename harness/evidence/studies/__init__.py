"""Simulations and measurements behind the rules of the method; each can be repeated."""
