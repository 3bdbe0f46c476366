"""The canonical form of JSON, by the examples of RFC 8785."""

import hashlib

import pytest
import rfc8785
from bson import Int64
from hypothesis import given
from hypothesis import strategies as st

from app.kit.canonical_json import canonical_digest, canonical_json


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1.0, "a": [True, None, "ä"]}, '{"a":[true,null,"ä"],"b":1}'),
        ({"\u20ac": 1, "\r": 2, "1": 3}, '{"\\r":2,"1":3,"€":1}'),
        ([333333333.33333329, 1e30, 4.50, 2e-3, 1e-27], "[333333333.3333333,1e+30,4.5,0.002,1e-27]"),
        (2**53, "9007199254740992"),
        (Int64(7), "7"),
        ({}, "{}"),
        ([-0.0, 1e21, 1e20, -1e-7, 5e-324, 0.000001], "[0,1e+21,100000000000000000000,-1e-7,5e-324,0.000001]"),
        ({"\U0001f600": 1, "\ufb33": 2}, '{"\U0001f600":1,"\ufb33":2}'),
        ('\u0000\u001f\u007f\u2028\\"/', '"\\u0000\\u001f\x7f\u2028\\\\\\"/"'),
    ],
)
def test_a_value_has_one_form(value: object, text: str) -> None:
    assert canonical_json(value) == text.encode()
    assert canonical_digest(value) == hashlib.sha256(text.encode()).hexdigest()


def test_a_number_that_json_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match=r"."):
        canonical_json({"a": float("nan")})


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_the_form_is_that_of_the_reference_library(value: object) -> None:
    assert canonical_json(value) == rfc8785.dumps(value)  # pyright: ignore[reportArgumentType] - any JSON value


def test_a_value_that_json_does_not_have_is_refused() -> None:
    for value in ({"a": b"bytes"}, "\ud800", {"a": float("inf")}):
        with pytest.raises(ValueError, match=r"."):
            canonical_json(value)
