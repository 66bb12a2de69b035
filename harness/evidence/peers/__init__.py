"""The peers, frameworks that one could use instead of our own app: their environments and their answers."""
