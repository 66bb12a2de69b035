"""The requests of the users of a closed loop, which depend on nothing but the seed."""

from __future__ import annotations

from collections.abc import Iterator

from harness.client.http_client import Request


class UserRequests:
    """Deals one stream of requests out to users: of `users`, user u gets those numbered u, u + users, ….

    So a user always sends the same texts. It does not matter who is answered first, or which generator
    acts as the user. `ours` are the users of this generator; the requests of others are dropped.
    """

    def __init__(self, requests: Iterator[Request], users: int, ours: range) -> None:
        self._requests = requests
        self._users = users
        self._ours = ours
        self._sent = dict.fromkeys(ours, 0)  # user → requests
        self._drawn = 0
        self._waiting: dict[int, Request] = {}  # number → request of a user who is behind the fastest

    def next_of(self, user: int) -> Request:
        """Return the user's next request."""
        number = self._sent[user] * self._users + user
        self._sent[user] += 1
        while self._drawn <= number:
            request = next(self._requests)
            if self._drawn % self._users in self._ours:
                self._waiting[self._drawn] = request
            self._drawn += 1
        return self._waiting.pop(number)
