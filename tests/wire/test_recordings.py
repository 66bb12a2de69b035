"""Recordings with texts: how they are read, and that a changed text is noticed."""

import json
from pathlib import Path
from typing import Any

import pytest

from harness.wire import recordings
from harness.wire.arrivals import digest, due_times_s, parse
from harness.wire.load_options import Request
from harness.wire.options import WorkloadOptions

THREE = [(0.2, "second"), (0.0, "first\u2028line"), (0.2, "third")]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "recorded.jsonl"
    write(path, THREE)
    return path


def write(path: Path, requests: list[tuple[float, str]]) -> None:
    lines = [
        json.dumps({"at_s": at_s, "text": text, "user": 1}, ensure_ascii=False) for at_s, text in requests
    ]
    path.write_text("\n".join([*lines, "", ""]))


def test_times_are_sorted_together_with_their_texts(file: Path) -> None:
    law = parse(f"replay({file})")
    assert list(due_times_s(law, 1)) == recordings.times_s(str(file)) == [0.0, 0.2, 0.2]
    assert recordings.texts(str(file)) == ["first\u2028line", "second", "third"]
    assert law.recorded_texts == str(file)
    assert law.rate_per_s == pytest.approx(10)


def test_bare_times_have_no_texts(tmp_path: Path) -> None:
    (tmp_path / "times").write_text("0\n1\n")
    assert parse(f"replay({tmp_path / 'times'})").recorded_texts is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0.5", 'line 2 of .* has no number "at_s"; write {"at_s": 0.25, "text": '),
        ("{", "line 2 of .* is not JSON; write"),
        ('{"text": "a"}', 'line 2 of .* has no number "at_s"'),
        ('{"at_s": "1", "text": "a"}', 'line 2 of .* has no number "at_s"'),
        ('{"at_s": true, "text": "a"}', 'line 2 of .* has no number "at_s"'),
        ('{"at_s": -1, "text": "a"}', '"at_s" in line 2 of .* must be from 0'),
        ('{"at_s": NaN, "text": "a"}', '"at_s" in line 2 of .* must be from 0'),
        ('{"at_s": 1' + "0" * 5000 + ', "text": "a"}', '"at_s" in line 2 of .* must be from 0'),
        ('{"at_s": 1}', 'line 2 of .* has no "text"'),
        ('{"at_s": 1, "text": "\\ud800"}', 'line 2 of .* has no "text"'),
        ("", "fewer than two due times"),
    ],
)
def test_a_line_that_is_no_request_is_refused(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "recorded.jsonl"
    path.write_text(f'{{"at_s": 0, "text": "a"}}\n{line}\n')
    with pytest.raises(ValueError, match=message):
        parse(f"replay({path})")


def test_the_hash_of_the_schedule_changes_with_a_text_and_not_with_the_order_of_lines(file: Path) -> None:
    law = parse(f"replay({file})")
    before = digest(law, 1)
    write(file, [THREE[1], THREE[0], THREE[2]])
    assert digest(law, 2) == before
    write(file, [THREE[1], THREE[0], (0.2, "another")])
    assert digest(law, 1) != before
    assert digest(law, 1, until_s=0.1) == digest(law, 1, count=1)


def test_recorded_texts_are_sent_like_other_texts_and_need_a_place(file: Path) -> None:
    law, workload = parse(f"replay({file})"), WorkloadOptions()

    def asked(url: str = "http://x/", **request: Any) -> dict[str, Any]:
        return Request(**request).load(workload, 1, [url], law)

    assert asked()["method"] == "POST"
    assert asked()["texts"].recording == str(file)
    assert asked("http://x/?q={text}")["method"] == "GET"
    with pytest.raises(ValueError, match=r"the body has no \{text\}, the place of a recorded text"):
        asked(body="{}")
