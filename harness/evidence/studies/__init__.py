"""Simulations and measurements that a rule of the method rests on; each can be run again."""
