from hypothesis import given
from hypothesis import strategies as st

from modelsim.kv_cache import KVCache, Lease


def take(cache: KVCache, hashes: list[int], *, prompt: int | None = None, answer: int = 0) -> Lease | None:
    return cache.reserve(hashes, matchable=len(hashes), prompt=prompt or len(hashes), answer=answer)


def hold(cache: KVCache, hashes: list[int], *, prompt: int | None = None, answer: int = 0) -> Lease:
    lease = take(cache, hashes, prompt=prompt, answer=answer)
    assert lease is not None
    return lease


def computed(cache: KVCache, hashes: list[int]) -> Lease:
    lease = hold(cache, hashes)
    cache.publish(lease, len(hashes))
    return lease


def test_a_prefix_is_found_once_it_is_computed() -> None:
    cache = KVCache(10)
    first = hold(cache, [1, 2, 3])
    assert cache.match([1, 2, 3]) == 0
    cache.publish(first, 2)
    assert cache.match([1, 2, 3]) == 2
    assert hold(cache, [1, 2, 9]).cached == 2


def test_a_hole_ends_the_match() -> None:
    cache = KVCache(10)
    computed(cache, [1, 2, 3])
    assert cache.match([1, 8, 3]) == 1


def test_what_may_not_be_matched_is_computed() -> None:
    cache = KVCache(10)
    computed(cache, [1, 2])
    lease = cache.reserve([1, 2], matchable=1, prompt=2, answer=0)
    assert lease is not None
    assert lease.cached == 1


def test_shared_blocks_are_counted_once() -> None:
    cache = KVCache(10)
    computed(cache, [1, 2])
    assert hold(cache, [1, 2, 3]).cached == 2
    assert cache.used == 3


def test_blocks_computed_twice_become_one() -> None:
    cache = KVCache(10)
    one, two = hold(cache, [1, 2]), hold(cache, [1, 2, 3])
    assert cache.used == 5
    cache.publish(one, 2)
    cache.publish(two, 3)
    assert cache.used == 3
    assert cache.match([1, 2, 3]) == 3


def test_a_block_computed_again_after_its_owner_left_is_revived() -> None:
    cache = KVCache(10)
    one, two = hold(cache, [1]), hold(cache, [1])
    cache.publish(one, 1)
    cache.release(one)
    cache.publish(two, 1)
    assert (cache.used, cache.evictable) == (1, 0)


def test_released_blocks_stay_until_room_is_needed() -> None:
    cache = KVCache(4)
    cache.release(computed(cache, [1, 2, 3]))
    assert (cache.used, cache.evictable) == (0, 3)
    hold(cache, [7, 8])
    # The end of the prompt goes first.
    assert cache.match([1, 2, 3]) == 2


def test_the_least_recently_used_prefix_goes_first() -> None:
    cache = KVCache(2)
    cache.release(computed(cache, [1]))
    cache.release(computed(cache, [2]))
    cache.release(hold(cache, [1]))
    hold(cache, [3])
    assert cache.match([1]) == 1
    assert cache.match([2]) == 0


def test_no_room_takes_nothing() -> None:
    cache = KVCache(4)
    hold(cache, [1, 2, 3])
    assert take(cache, [5, 6]) is None
    assert cache.used == 3


def test_an_evictable_block_that_is_needed_is_not_room() -> None:
    cache = KVCache(3)
    cache.release(computed(cache, [1, 2]))
    hold(cache, [7])
    assert take(cache, [1, 2], prompt=3) is None


def test_what_was_promised_to_an_answer_is_given_to_nobody_else() -> None:
    cache = KVCache(4)
    lease = hold(cache, [1], answer=2)
    assert (cache.used, cache.promised) == (1, 2)
    assert take(cache, [5, 6]) is None
    cache.grow(lease)
    assert (cache.used, cache.promised) == (2, 1)
    cache.release(lease)
    assert (cache.used, cache.promised) == (0, 0)


def test_growth_evicts() -> None:
    cache = KVCache(3)
    lease = hold(cache, [1], answer=1)
    cache.release(computed(cache, [8]))
    cache.release(computed(cache, [9]))
    assert (cache.used, cache.evictable) == (1, 2)
    cache.grow(lease)
    assert (cache.used, cache.evictable) == (2, 1)
    assert cache.match([9]) == 1


@given(st.data())
def test_whatever_happens_the_blocks_add_up(data: st.DataObject) -> None:
    cache = KVCache(data.draw(st.integers(1, 12)))
    leases: list[Lease] = []
    for _ in range(data.draw(st.integers(0, 30))):
        action = data.draw(st.sampled_from(["reserve", "publish", "grow", "release"]))
        if action == "reserve":
            # Chains: a block's hash stands for all before it, so equal numbers are at equal places.
            hashes = [10 * place + data.draw(st.integers(0, 1)) for place in range(data.draw(st.integers(0, 4)))]
            rest = data.draw(st.integers(0 if hashes else 1, 1))
            lease = take(cache, hashes, prompt=len(hashes) + rest, answer=data.draw(st.integers(0, 3)))
            if lease is not None:
                leases.append(lease)
        elif leases:
            lease = data.draw(st.sampled_from(leases))
            if action == "publish":
                cache.publish(lease, data.draw(st.integers(0, len(lease.hashes))))
            elif action == "grow" and lease.promised:
                cache.grow(lease)
            elif action == "release":
                leases.remove(lease)
                cache.release(lease)
        assert cache.used + cache.evictable <= cache.total
        assert cache.used + cache.promised <= cache.total
        assert cache.promised == sum(lease.promised for lease in leases)
        held = {block for lease in leases for block in lease.held}
        assert cache.used == len(held) + sum(lease.private for lease in leases)
    for lease in leases:
        cache.release(lease)
    assert (cache.used, cache.promised) == (0, 0)
