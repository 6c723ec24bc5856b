"""The bounded version of `bench/fuzz_auth.py`: spoilt headers and key sets give documented errors, and nothing else."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from support.token_mutations import Input, authenticator, check, input_of

from extproc.auth.base import Reason

#: Enough that every reason comes up; a second and a half.
INPUTS = 8000
#: Not from a spoilt token: without keys nothing is verified, and the fuzzer has keys, but no API keys.
UNREACHED = {Reason.KEYS_UNAVAILABLE.value, Reason.UNKNOWN_API_KEY.value}


def test_spoilt_headers_and_key_sets() -> None:
    auth = authenticator()
    verdicts: Counter[str] = Counter()
    for seed in range(INPUTS):
        given_ = input_of(seed)
        try:
            verdicts[check(auth, given_)] += 1
        except Exception as error:
            raise AssertionError(f"seed {seed}: {given_!r}") from error
    # The fuzzer would prove nothing if it did not get everywhere.
    expected = {reason.value for reason in Reason} - UNREACHED
    assert set(verdicts) == expected | {"accepted", "key set: read", "key set: no key set"}


@settings(max_examples=300)
@given(st.lists(st.binary(max_size=80) | st.binary(max_size=80).map(b"Bearer ".__add__), max_size=3))
def test_any_bytes_in_any_number_of_headers(values: list[bytes]) -> None:
    assert check(authenticator(), Input(tuple(values))) != "accepted"


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_any_bytes_as_a_key_set(data: bytes) -> None:
    assert check(authenticator(), Input(key_set=data)).startswith("key set: ")
