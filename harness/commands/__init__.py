"""The commands of `execbench`, a file each. They parse nothing heavy at import: `--help` must be instant."""
