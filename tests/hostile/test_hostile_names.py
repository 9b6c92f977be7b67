"""Names and references by hypothesis: only what the pattern allows is ever looked up."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from nidim.spec import Name
from service.store.names import ById, ByVersion, is_name, parse_ref

RULE = re.compile(r"\A(?!enc_|gen_|job_)[a-z0-9][a-z0-9._-]{0,62}\Z", re.ASCII)
NEAR = st.text(st.sampled_from("az09._-@:%/\\\n\r\x00 ٣¹é．․Aenc_job_"), max_size=70)
TEXTS = NEAR | st.text(max_size=70) | st.from_regex(RULE)
BODY = TypeAdapter(Name)


def in_body(text: str) -> bool:
    try:
        BODY.validate_python(text)
    except ValidationError:
        return False
    return True


@given(TEXTS)
@example("gauss\n")
@example("a" * 64)
@example("..")
@example("³")
@example("enc_a")
def test_paths_and_bodies_know_the_same_names(text: str) -> None:
    wanted = RULE.match(text) is not None
    assert is_name(text) is wanted
    assert in_body(text) is wanted


@given(TEXTS)
@example("gauss@1\n")
@example("gauss@٣")
@example("gauss@01")
@example("gauss:live:x")
@example("gauss@1:live")
def test_a_reference_names_only_names(text: str) -> None:
    ref = parse_ref(text)
    if ref is None:
        return
    assert text.isascii()
    assert not set(text) & set("/\\\n\r\x00% ")
    if not isinstance(ref, ById):
        assert RULE.match(ref.name)
    if isinstance(ref, ByVersion):
        assert text == f"{ref.name}@{ref.version}"
