"""What is measured, and how. The strategies themselves live in the package `strategies`."""

__version__ = "0.1.0"
