"""The user's own texts: file formats, drawing by seed, and comparing runs with different files."""

from __future__ import annotations

import gzip
import itertools
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import Invoke
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import workloads
from harness.errors import UsageError
from harness.plans import from_flags, plan_files
from harness.verdicts import same_work
from harness.wire.options import WorkloadOptions
from harness.workloads import payload_texts


@pytest.fixture(autouse=True)
def _read_again() -> Iterator[None]:
    yield
    payload_texts.read.cache_clear()


def written(folder: Path, name: str, content: str | bytes) -> str:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def drawn_texts(path: str, seed: int, count: int = 40) -> list[str]:
    options = WorkloadOptions(name="synthetic", payloads=path)
    return list(itertools.islice(workloads.texts(options, seed), count))


def test_a_plain_file_has_one_text_per_line_without_empty_lines(tmp_path: Path) -> None:
    path = written(tmp_path, "texts.txt", '\ufefffirst\r\n\n  second {"text": 1}  \n')
    assert payload_texts.read(path) == ("first", 'second {"text": 1}')


def test_json_lines_are_strings_or_objects_with_a_text(tmp_path: Path) -> None:
    lines = [json.dumps("a\nb"), "", json.dumps({"text": "c\u2028d", "more": 1}, ensure_ascii=False)]
    assert payload_texts.read(written(tmp_path, "texts.jsonl", "\n".join(lines))) == ("a\nb", "c\u2028d")


FIRST_AND_SECOND = {
    "q.ndjson": b'{"text": "one"}\n{"text": "two"}\n',
    "Q.JSONL": b'{"text": "one"}\n"two"\n',
    "one.json": b'["one", "two"]',
    "lines.json": b'{"text": "one"}\n{"text": "two"}\n',
    "pretty.json": b'[\n  {\n    "text": "one"\n  },\n  {\n    "text": "two"\n  }\n]',
    "a.csv": b"id,Text\r\n1,one\r\n2,two\r\n3,\r\n",
    "semicolons.csv": b'\xef\xbb\xbftext;id\n"one";1\ntwo;2\n',
    "a.tsv": b"id\ttext\n1\tone\n2\ttwo\n",
    "utf16.txt": "one\r\ntwo\r\n".encode("utf-16"),
    "utf32.txt": "one\ntwo\n".encode("utf-32"),
    "bom.jsonl": b'\xef\xbb\xbf"one"\n"two"\n',
    "a.txt.gz": gzip.compress(b"one\ntwo\n"),
    "a.jsonl.GZ": gzip.compress(b'"one"\n"two"\n'),
    "packed.csv": gzip.compress(b"text\none\ntwo\n"),
}


@pytest.mark.parametrize("name", FIRST_AND_SECOND)
def test_texts_are_read_from_every_format_and_encoding(tmp_path: Path, name: str) -> None:
    assert payload_texts.read(written(tmp_path, name, FIRST_AND_SECOND[name])) == ("one", "two")


@pytest.mark.parametrize("name", ["a.txt", "a", "a.log"])
@pytest.mark.parametrize(
    "content",
    [
        '{"text": "one"}\n{"text": "two"}\n',
        '"one"\n',
        '[\n"one"\n]',
        '{"texts":\n ["one"]}\n',
        '{\n "text": "one"\n}\n',
        '{"text": "one"},\n{"text": "two"}\n',
        '# two texts\n{"text": "one"}\n{"text": "two"}\n',
    ],
)
def test_json_in_a_file_of_plain_lines_is_refused(tmp_path: Path, name: str, content: str) -> None:
    with pytest.raises(UsageError, match="contains JSON") as caught:
        payload_texts.read(written(tmp_path, name, content))
    assert ".jsonl" in caught.value.hint


def test_a_compressed_file_is_limited_in_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payload_texts, "MOST_BYTES_OF_TEXTS", 10_000)
    with pytest.raises(UsageError, match=r"larger than 0\.01 MB"):
        payload_texts.read(written(tmp_path, "bomb.txt.gz", gzip.compress(b"a\n" * 10_000)))
    with pytest.raises(UsageError, match="cannot be decompressed"):
        payload_texts.read(written(tmp_path, "torn.gz", gzip.compress(b"a\n" * 1_000)[:-9]))


@pytest.mark.parametrize("kind", ["fifo", "folder", "/dev/zero"])
def test_a_file_that_is_not_regular_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    os.mkfifo(path) if kind == "fifo" else path.mkdir()
    with pytest.raises(UsageError, match=r"cannot be read: (it is not a regular file|Is a directory)"):
        payload_texts.read(kind if kind.startswith("/") else str(path))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["a.txt", "a.json", "a.jsonl", "a.csv", "a.gz"]), st.binary(max_size=200))
def test_any_bytes_give_texts_or_a_usage_error(
    tmp_path_factory: pytest.TempPathFactory, name: str, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(content)
    payload_texts.read.cache_clear()
    with suppress(UsageError):
        assert all(isinstance(text, str) for text in payload_texts.read(str(path)))


def test_a_seed_determines_the_texts_drawn_with_replacement(tmp_path: Path) -> None:
    path = written(tmp_path, "texts.txt", "a\nb\nc\nd\n")
    assert drawn_texts(path, seed=1) == drawn_texts(path, seed=1)
    assert drawn_texts(path, seed=1) != drawn_texts(path, seed=2)
    assert set(drawn_texts(path, seed=1)) == {"a", "b", "c", "d"}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", "\n \n", "a.txt is empty"),
        ("a.txt", b"fine\n\xff\n", "a.txt is not UTF-8 (byte 5)"),
        ("a.jsonl", '"fine"\n\n{"text": 1}\n', "a.jsonl, line 3 has no text"),
        ("a.jsonl", '"fine"\nnot so\n', "a.jsonl, line 2 is not JSON"),
        ("a.jsonl", '{"question": "?"}', "a.jsonl, line 1 has no text"),
        ("a.jsonl", r'"\ud800"', "a.jsonl, line 1 has no text"),
        ("a.json", '["one", 2]', "a.json, text 2 has no text"),
        ("a.json", "[" * 100_000, "a.json, line 1 is not JSON"),
        ("a.csv", "question\nwhy\n", "a.csv has no column `text`"),
        ("a.csv", "text\n\n", "a.csv is empty"),
        ("a.csv", 'text,id\n"never closed,1\n', "a.csv is not a CSV"),
        ("a.xlsx", b"PK\3\4\0\0", "a.xlsx is not a text file"),
    ],
)
def test_a_file_without_texts_is_refused_with_its_line(
    tmp_path: Path, name: str, content: str | bytes, said: str
) -> None:
    with pytest.raises(UsageError) as caught:
        workloads.check(WorkloadOptions(name="synthetic", payloads=written(tmp_path, name, content)))
    assert said in caught.value.what
    assert caught.value.hint


def test_a_missing_file_of_texts_is_refused_before_anything_starts(invoke: Invoke) -> None:
    done = invoke("run", "--workload", "synthetic", "--payloads", "absent.txt")
    assert done.returncode == 2
    assert "absent.txt cannot be read" in done.stderr


def test_a_relative_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert WorkloadOptions(payloads="texts.txt").payloads == str(tmp_path / "texts.txt")


def test_an_arm_with_other_texts_than_its_plan_is_refused(tmp_path: Path) -> None:
    arm = {"name": "a", "strategy": "inline", "workload": {"payloads": written(tmp_path, "a.txt", "a")}}
    with pytest.raises(UsageError, match="The texts of arm 'a' are not its plan's"):
        plan_files.make({"name": "p", "concurrency": [1], "requests": 1, "arms": [arm]}, source="plan")


def test_another_workload_keeps_a_plans_texts_but_not_its_claims(tmp_path: Path) -> None:
    path = written(tmp_path, "a.txt", "a")
    article = plan_files.load("article")
    with_texts = from_flags.override(article, from_flags.Flags(workload={"payloads": path}))
    assert with_texts.claims is None
    other = from_flags.override(with_texts, from_flags.Flags(workload={"name": "synthetic"}))
    assert (other.workload.name, other.workload.payloads) == ("synthetic", path)


def test_runs_with_different_texts_are_not_compared() -> None:
    def against(other: dict[str, str | None]) -> list[str]:
        return same_work.obstacles(({"payloads_sha256": "a1"}, "x"), (other, "x"))

    assert against({"payloads_sha256": "a1"}) == []
    assert against({"payloads_sha256": "b2"}) == ["payloads_sha256: a1 and b2"]
    assert against({"payloads_sha256": None}) == ["payloads_sha256: a1 and None"]
    assert against({}) == []
