"""Signing: keys rotate, and never show."""

from __future__ import annotations

import pytest

from thumbproxy.urls.signing import Signer

OLD, NEW = "old-key-of-sixteen-bytes", "new-key-of-sixteen-bytes"


def test_the_first_key_signs_and_all_verify() -> None:
    rotated = Signer([NEW, OLD])
    assert rotated.sign("x") == Signer([NEW]).sign("x")
    assert rotated.verify("x", Signer([OLD]).sign("x"))
    assert not Signer([NEW]).verify("x", Signer([OLD]).sign("x"))


@pytest.mark.parametrize("signature", ["", "é" * 22, "A" * 22, "\u0100", "A" * 1000])
def test_anything_else_is_no_signature(signature: str) -> None:
    assert not Signer([NEW]).verify("x", signature)


@pytest.mark.parametrize("keys", [[], ["short"], [NEW, "x" * 15]])
def test_keys_that_protect_nothing_are_refused(keys: list[str]) -> None:
    with pytest.raises(ValueError, match="key"):
        Signer(keys)


def test_one_string_is_not_a_list_of_keys() -> None:
    """Each of its characters would be a key."""
    with pytest.raises(ValueError, match="must be a list"):
        Signer("one string is not a list")


def test_sixteen_bytes_of_utf8_are_enough() -> None:
    Signer(["é" * 8])


def test_keys_are_not_shown() -> None:
    assert NEW not in repr(Signer([NEW]))
