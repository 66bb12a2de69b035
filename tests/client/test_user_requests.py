"""Each user of a closed loop has requests of its own, whichever generator acts as the user."""

import itertools
from collections.abc import Iterator

import httpx
from hypothesis import given
from hypothesis import strategies as st

from harness.client.http_client import Request
from harness.client.user_requests import UserRequests

USERS = 7


def stream() -> Iterator[Request]:
    return (Request(httpx.URL("http://x"), str(number).encode(), None) for number in itertools.count())


def sent(order: list[int], generators: int) -> dict[int, list[bytes]]:
    """The targets that each user sends, if users are answered in this order."""
    shares = [UserRequests(stream(), USERS, range(index, USERS, generators)) for index in range(generators)]
    found: dict[int, list[bytes]] = {user: [] for user in range(USERS)}
    for user in order:
        found[user].append(shares[user % generators].next_of(user).target)
    return found


@given(
    order=st.lists(st.integers(0, USERS - 1), max_size=60), generators=st.integers(1, USERS), data=st.data()
)
def test_the_requests_of_a_user_depend_on_neither_the_generators_nor_the_order_of_answers(
    order: list[int], generators: int, data: st.DataObject
) -> None:
    other = data.draw(st.permutations(order))
    assert sent(order, 1) == sent(other, generators)


def test_users_share_out_one_stream() -> None:
    found = sent([0, 1, 2, 3, 4, 5, 6, 0, 0], 2)
    assert found[0] == [b"0", b"7", b"14"]
    assert found[6] == [b"6"]


def test_the_requests_of_other_generators_take_no_memory() -> None:
    requests = UserRequests(stream(), USERS, range(0, USERS, 2))
    for _ in range(1_000):
        for user in range(0, USERS, 2):
            requests.next_of(user)
    assert len(requests._waiting) < USERS
