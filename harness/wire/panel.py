"""The parts of a command's help. Without imports, so that `execbench --help` stays quick."""

import enum


class Panel(enum.StrEnum):
    """The part of a command's help that lists a setting, in the order of the help."""

    COMPARE = "What to compare"
    LOAD = "Load"
    PRECISION = "How long and how sure"
    MODEL = "Model"
    IO = "I/O"
    RUNNING = "Other servers"
    OUTPUT = "Output"
