"""Hypothesis strategies for text from outside: any character, and often those with a special meaning."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st

ACTIVE = "\x1b\x9b\x07\r\n\t\x00\x7f\u202e\u2066\u2028\ud800\ufeff[]()<>{}|`*_~$#@!&:;=+-.'\"\\/ 1a"
TEXTS = st.text(st.one_of(st.sampled_from(ACTIVE), st.characters()), max_size=40)

often = settings(max_examples=300, deadline=None, database=None)
