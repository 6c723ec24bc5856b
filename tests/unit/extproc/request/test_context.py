"""Keys of requests."""

from support.pipeline_world import World


def test_a_context_knows_its_own_keys() -> None:
    first, second = World().pipeline.context, World().pipeline.context
    assert not first.issued(first.next_key()[:-1] + "g")
    keys = [first.next_key() for _ in range(3)]
    assert all(map(first.issued, keys))
    assert not first.issued(f"{(int(keys[-1], 16) + 1) % 2**64:016x}")
    assert not first.issued(f"{int(keys[0], 16) - 2:016x}")
    second._keys = second._first_key = 2**64 - 2
    assert [second.issued(key) for key in (second.next_key(), second.next_key(), "0", "1")] == [True, True, True, False]
