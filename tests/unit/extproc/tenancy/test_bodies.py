import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.tenancy.bodies import FREE, GRACE, PATIENCE, SLOWEST, Bodies, Hold, TooManyBytes

MIB = 1 << 20


class Upload:
    """One of a test, which ends when it is told to."""

    def __init__(self, bodies: Bodies, tenant: str, size: int, now: float) -> None:
        self.ended = 0
        self.hold = bodies.take(tenant, size, now, self._end)

    def _end(self) -> None:
        self.ended += 1

    @property
    def whole(self) -> bool:
        assert self.hold is not None
        return self.hold.whole

    @whole.setter
    def whole(self, whole: bool) -> None:
        assert self.hold is not None
        self.hold.whole = whole


def test_small_bodies_count_for_nothing() -> None:
    bodies = Bodies(MIB, MIB)
    for _ in range(1000):
        assert bodies.take("a", FREE, 0.0, lambda: None) is None
    assert bodies.held == 0


def test_a_tenant_has_its_share_and_others_have_theirs() -> None:
    bodies = Bodies(10 * MIB, 4 * MIB)
    first = [Upload(bodies, "a", MIB, 0.0) for _ in range(4)]
    with pytest.raises(TooManyBytes, match="share"):
        Upload(bodies, "a", MIB, GRACE / 2)
    assert Upload(bodies, "b", 4 * MIB, 0.0).hold is not None
    assert not any(one.ended for one in first)
    # What is over makes room.
    assert first[0].hold is not None
    bodies.release(first[0].hold)
    bodies.release(first[0].hold)
    assert bodies.held == 7 * MIB
    assert Upload(bodies, "a", MIB, 0.0).hold is not None


def test_an_upload_that_stalls_does_not_keep_its_own_tenant_out() -> None:
    bodies = Bodies(10 * MIB, 4 * MIB)
    stalled = [Upload(bodies, "a", MIB, float(n)) for n in range(4)]
    fresh = Upload(bodies, "a", 2 * MIB, 1.0 + GRACE)
    assert [one.ended for one in stalled] == [1, 1, 0, 0]
    assert fresh.ended == 0
    assert (bodies.held, bodies.evicted) == (4 * MIB, 2)


def test_whoever_holds_most_gives_way_to_a_newcomer_at_once() -> None:
    bodies = Bodies(8 * MIB, 6 * MIB)
    heavy = [Upload(bodies, "heavy", 2 * MIB, 0.0) for _ in range(3)]
    light = Upload(bodies, "light", 2 * MIB, 0.0)
    newcomer = Upload(bodies, "new", MIB, 0.0)
    assert [one.ended for one in heavy] == [1, 0, 0]
    assert light.ended == newcomer.ended == 0


def test_what_is_whole_is_never_ended() -> None:
    bodies = Bodies(4 * MIB, 4 * MIB)
    held = [Upload(bodies, "a", 2 * MIB, 0.0) for _ in range(2)]
    for one in held:
        one.whole = True
    with pytest.raises(TooManyBytes, match="fill"):
        Upload(bodies, "b", MIB, 1000.0)
    bodies.expire(1e9)
    assert not any(one.ended for one in held)


def test_where_the_heaviest_has_nothing_that_may_end_the_next_one_gives_way() -> None:
    bodies = Bodies(4 * MIB, 4 * MIB)
    Upload(bodies, "heavy", 3 * MIB, 0.0).whole = True
    slow = Upload(bodies, "slow", MIB, 0.0)
    assert Upload(bodies, "new", MIB, 1.0 + GRACE).ended == 0
    assert slow.ended == 1


def test_a_body_has_a_time_by_its_length() -> None:
    bodies = Bodies(40 * MIB, 40 * MIB)
    short, long = Upload(bodies, "a", MIB, 0.0), Upload(bodies, "a", 16 * MIB, 0.0)
    bodies.expire(PATIENCE + MIB / SLOWEST - 0.1)
    assert short.ended == 0
    bodies.expire(PATIENCE + MIB / SLOWEST)
    assert (short.ended, long.ended) == (1, 0)
    bodies.expire(PATIENCE + 16 * MIB / SLOWEST)
    assert (short.ended, long.ended, bodies.late, bodies.held) == (1, 1, 2, 0)


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"), st.integers(1, 5 * MIB), st.sampled_from(["take", "whole", "release", "tick"])
        ),
        max_size=60,
    )
)
def test_the_sums_are_true_and_nothing_ends_that_is_whole(steps: list[tuple[str, int, str]]) -> None:
    bodies, now = Bodies(12 * MIB, 6 * MIB), 0.0
    uploads: list[Upload] = []
    for tenant, size, what in steps:
        now += 0.7
        chosen = uploads[size % len(uploads)] if uploads else None
        if what == "take":
            try:
                one = Upload(bodies, tenant, size, now)
            except TooManyBytes:
                pass
            else:
                assert one.ended == 0
                if one.hold is not None:
                    uploads.append(one)
        elif what == "tick":
            now += size / 1e5
            bodies.expire(now)
        elif chosen is not None and chosen.hold is not None:
            if what == "whole" and chosen.hold.open:
                chosen.whole = True
            elif what == "release":
                bodies.release(chosen.hold)
        held: dict[str, int] = {}
        for one in uploads:
            hold = one.hold
            assert isinstance(hold, Hold)
            assert one.ended <= 1
            assert not (one.ended and (hold.open or hold.whole))
            if hold.open:
                held[hold.tenant] = held.get(hold.tenant, 0) + hold.size
        assert bodies.held == sum(held.values()) <= 12 * MIB
        assert max(held.values(), default=0) <= 6 * MIB
