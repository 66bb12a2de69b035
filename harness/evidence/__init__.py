"""Proof that the instrument and the strategies do as they say.

Imports all rooms but `commands`, `server` and `client`.
"""
