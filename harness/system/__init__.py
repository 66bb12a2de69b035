"""The operating system and its quirks: processes, signals, streams, files. Imports only `errors`."""
