"""The canonical form of JSON, by the examples of RFC 8785."""

import hashlib

import pytest
from bson import Int64

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
    ],
)
def test_a_value_has_one_form(value: object, text: str) -> None:
    assert canonical_json(value) == text.encode()
    assert canonical_digest(value) == hashlib.sha256(text.encode()).hexdigest()


def test_a_number_that_json_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match=r"."):
        canonical_json({"a": float("nan")})
