"""Count the requests of a trial as they finish, in bounded memory however many there are."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from harness.system import own_limits

MOST_ERRORS = 1_000  # different texts; a server may put a new number into each
OTHER_ERRORS = "other errors"  # all that came after the first `MOST_ERRORS`

_FINE_MS = 0.05  # width of a bin of lags, up to `_FINE_UNTIL_MS`; above it each bin is 1 % wide
_FINE_UNTIL_MS = 100.0
_FINE_BINS = round(_FINE_UNTIL_MS / _FINE_MS)


class Counts(NamedTuple):
    """What was counted of a trial's requests; `requests`, `unanswered` and `errors` include pings."""

    requests: int = 0
    measured: int = 0
    failed: int = 0  # measured requests without a good answer
    unanswered: int = 0  # requests without any answer
    errors: Mapping[str, int] = MappingProxyType({})  # error → requests
    measured_errors: Mapping[str, int] = MappingProxyType({})  # of measured requests, in order of appearance
    lags: tuple[tuple[int, int], ...] = ()  # the bin of a dispatch lag → measured requests, sorted

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Counts:
        """Return the counts of which `data` is the JSON of `_asdict`."""
        return cls(**{**data, "lags": tuple((number, times) for number, times in data["lags"])})

    @property
    def dispatch_lag_p50_ms(self) -> float | None:
        """The median dispatch lag of measured requests, within 0.03 ms or 0.5 %; None without any."""
        seen, measured = 0, sum(times for _, times in self.lags)
        for number, times in self.lags:
            seen += times
            if 2 * seen >= measured:
                return _middle_ms(number)
        return None


def total(parts: Sequence[Counts]) -> Counts:
    """Return the counts of all requests together."""
    added: dict[str, Counter[Any]] = {name: Counter() for name in ("errors", "measured_errors", "lags")}
    for part in parts:
        for name, counter in added.items():
            counter.update(dict(getattr(part, name)))
    return Counts(
        requests=sum(part.requests for part in parts),
        measured=sum(part.measured for part in parts),
        failed=sum(part.failed for part in parts),
        unanswered=sum(part.unanswered for part in parts),
        errors=dict(added["errors"]),
        measured_errors=dict(added["measured_errors"]),
        lags=tuple(sorted(added["lags"].items())),
    )


class Tally:
    """Counts requests one by one."""

    def __init__(self) -> None:
        self._requests = self._measured = self._unanswered = 0
        self._errors: dict[str, int] = {}
        self._measured_errors: dict[str, int] = {}
        self._lags: Counter[int] = Counter()  # bin → measured requests

    def add(self, *, measured: bool, lag_ms: float, error: str, answered: bool) -> None:
        """Count a finished request that was sent `lag_ms` after it was due."""
        self._requests += 1
        if measured:
            self._measured += 1
            self._lags[_bin(lag_ms)] += 1
        if error:
            self._unanswered += not answered
            _count(self._errors, error)
            if measured:
                _count(self._measured_errors, error)

    def counts(self) -> Counts:
        """Return what was counted so far."""
        return Counts(
            requests=self._requests,
            measured=self._measured,
            failed=sum(self._measured_errors.values()),
            unanswered=self._unanswered,
            errors=dict(self._errors),
            measured_errors=dict(self._measured_errors),
            lags=tuple(sorted(self._lags.items())),
        )


def _count(errors: dict[str, int], error: str) -> None:
    if error not in errors and len(errors) >= MOST_ERRORS and not own_limits.is_own(error):
        error = OTHER_ERRORS
    errors[error] = errors.get(error, 0) + 1


def _bin(lag_ms: float) -> int:
    if lag_ms < _FINE_UNTIL_MS:
        return int(lag_ms / _FINE_MS)
    return _FINE_BINS + int(math.log(lag_ms / _FINE_UNTIL_MS) * 100)


def _middle_ms(number: int) -> float:
    if number < _FINE_BINS:
        return (number + 0.5) * _FINE_MS
    return _FINE_UNTIL_MS * math.exp((number - _FINE_BINS + 0.5) / 100)
