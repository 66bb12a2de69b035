"""The commands of `execbench`, a file each. Imports all rooms but `server` and `client`.

What is heavy is imported inside a command: `--help` must be instant.
"""
