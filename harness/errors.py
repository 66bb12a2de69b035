"""The errors a user meets: what happened, at which stage, and what to do next."""

USAGE = 2
FAILURE = 1
INTERRUPTED = 130

_LONGEST_LINE = 2_000


class HarnessError(Exception):
    """Something the user can act on. `cli.main` is the one place that prints it and exits.

    what: one sentence, no traceback needed. stage: where it happened ("plan", "server", "load", …).
    hint: the way out, or empty. `exit_code` is 1; `UsageError` has 2.
    """

    exit_code = FAILURE

    def __init__(self, what: str, *, stage: str, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.stage = stage
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.stage, self.hint)


class UsageError(HarnessError):
    """A wrong flag value, plan or name: exit code 2."""

    exit_code = USAGE


def in_a_line(error: BaseException) -> str:
    """``TypeName: message`` in one printable line, whatever the exception's class does."""
    try:
        said = str(error)
    except BaseException as another:  # noqa: BLE001  a `__str__` of the user's may raise anything
        said = f"(its message cannot be shown: {type(another).__name__})"
    text = f"{type(error).__name__}: {said}"[:_LONGEST_LINE]
    return " ".join("".join(char if char.isprintable() else " " for char in text).split()).removesuffix(":")


def _rebuild(kind: type[HarnessError], what: str, stage: str, hint: str) -> HarnessError:
    """Errors cross process borders by pickle, which would call the class without its keywords."""
    return kind(what, stage=stage, hint=hint)
