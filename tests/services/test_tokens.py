"""Page tokens: anybody can make one up."""

import base64

import pytest

from phalanx.services import tokens


def made_up(text):
    return base64.urlsafe_b64encode(text.encode()).decode()


def test_a_token_holds_what_it_was_made_of():
    for position in (["Name", 1, "job-1"], [], [-(1 << 63), (1 << 63) - 1], ["é", "😀", "\0"]):
        assert tokens.decode(tokens.encode(position), *map(type, position)) == position


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("[" * 6000, [str]),
        ("{}", []),
        ('["a"', [str]),
        ('["a"]', [int]),
        ("[true]", [int]),
        ("[1.0]", [int]),
        ("[1]", [int, int]),
        (f"[{1 << 63}]", [int]),
        (f"[{-(1 << 63) - 1}]", [int]),
        ("[1" + "0" * 5000 + "]", [int]),
        (r'["\ud800"]', [str]),
        (r'["a", "\udc00b"]', [str, str]),
    ],
)
def test_what_no_list_has_given_is_no_token(text, kinds):
    with pytest.raises(ValueError):
        tokens.decode(made_up(text), *kinds)


@pytest.mark.parametrize("token", ["é", "a", "\ud800"])
def test_what_is_no_base64_is_no_token(token):
    with pytest.raises(ValueError):
        tokens.decode(token)
