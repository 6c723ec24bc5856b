from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelsim.engine import Engine, Request
from modelsim.errors import RequestTooLong
from modelsim.events import Event, Finished, FirstToken, Token
from modelsim.profile import EngineConfig, Profile

#: Times that are easy to add up: powers of two have no rounding.
PROFILE = Profile(overhead=4, per_prompt_token=0.125, inter_token=1, per_sequence=0.25, adapter_load=64)
BLOCK = "x" * 64
FOREVER = 1e12


def engine(profile: Profile = PROFILE, **limits: int) -> Engine:
    return Engine(EngineConfig(profile=profile, **limits))


def ask(name: str, tokens: int = 16, *, answer: int = 1, adapter: str = "", letter: str = "") -> Request:
    """A request whose prompt is its own, unless a letter is given."""
    prompt = (letter * tokens * 4) if letter else (name * tokens * 4)[: tokens * 4]
    return Request(id=name, prompt=prompt, max_tokens=answer, adapter=adapter)


def finished(events: list[Event]) -> dict[str, Finished]:
    return {event.id: event for event in events if isinstance(event, Finished)}


def ttft(events: list[Event], name: str) -> float:
    return next(event.ttft for event in events if isinstance(event, FirstToken) and event.id == name)


def test_one_request_takes_what_the_profile_says() -> None:
    sim = engine()
    sim.submit(ask("a", 16, answer=3), 100.0)
    assert sim.next_event(100.0) == 104.0
    assert sim.advance(105.0) == []
    assert sim.next_event(105.0) == 106.0
    assert sim.advance(200.0) == [
        FirstToken("a", 106.0, prompt_tokens=16, cached_tokens=0, ttft=6.0),
        Token("a", 107.25, gap=1.25),
        Token("a", 108.5, gap=1.25),
        Finished("a", 108.5, 16, 0, 3, latency=8.5, queued=0.0),
    ]
    assert sim.next_event(200.0) is None


def test_no_token_asked_for_ends_with_the_prefill() -> None:
    sim = engine()
    sim.submit(ask("a", 16, answer=0), 0.0)
    assert sim.advance(FOREVER) == [Finished("a", 6.0, 16, 0, 0, latency=6.0, queued=0.0)]


def test_events_that_are_due_wake_at_once() -> None:
    sim = engine()
    sim.submit(ask("a"), 0.0)
    sim.submit(ask("b"), 50.0)
    assert sim.next_event(50.0) == 50.0
    assert finished(sim.advance(50.0)).keys() == {"a"}


def test_waking_late_shifts_nothing() -> None:
    sim = engine()
    sim.submit(ask("a"), 0.0)
    assert sim.next_event(1000.0) == 1000.0
    assert finished(sim.advance(1000.0))["a"].at == 6.0


def test_decode_slows_down_with_the_batch() -> None:
    sim = engine()
    for name in "abcd":
        sim.submit(ask(name, answer=3), 0.0)
    gaps = {event.gap for event in sim.advance(FOREVER) if isinstance(event, Token)}
    assert gaps == {2.0}


def test_a_long_prompt_is_cut_in_chunks_that_decoding_shares_steps_with() -> None:
    sim = engine(max_num_seqs=4, max_num_batched_tokens=16)
    sim.submit(ask("a", 16, answer=20), 0.0)
    sim.submit(ask("b", 40, answer=1), 0.0)
    events = sim.advance(FOREVER)
    # 16 tokens of a; then three steps with a token of a, and 15, 15 and 10 of b.
    steps = [1.25 + 15 * 0.125, 1.25 + 15 * 0.125, 1.25 + 10 * 0.125]
    assert ttft(events, "a") == 6.0
    assert ttft(events, "b") == 6.0 + sum(steps)
    assert [event.gap for event in events if isinstance(event, Token)][:3] == steps


def test_a_prompt_for_which_nothing_is_left_of_the_budget_waits_for_the_next_step() -> None:
    sim = engine(max_num_seqs=4, max_num_batched_tokens=16)
    sim.submit(ask("a", 16), 0.0)
    sim.submit(ask("b", 16), 0.0)
    events = sim.advance(FOREVER)
    assert (ttft(events, "a"), ttft(events, "b")) == (6.0, 8.0)


def test_the_batch_is_limited() -> None:
    sim = engine(max_num_seqs=2)
    for name in "abc":
        sim.submit(ask(name), 0.0)
    assert (sim.running, sim.waiting) == (2, 1)
    done = finished(sim.advance(FOREVER))
    assert done["a"].queued == 0.0
    assert done["c"].queued == done["a"].at


def test_a_cached_prefix_shortens_the_wait_for_the_first_token() -> None:
    sim = engine()
    sim.submit(ask("a", 160, letter="x"), 0.0)
    cold = ttft(sim.advance(100.0), "a")
    sim.submit(ask("b", 160, letter="x"), 100.0)
    events = sim.advance(200.0)
    # The last block is computed again: something must be, to have a first token.
    assert finished(events)["b"].cached_tokens == 144
    assert cold - ttft(events, "b") == 144 * 0.125
    assert (sim.prefix_queries, sim.prefix_hits) == (320, 144)


def test_an_adapter_does_not_hit_what_the_base_model_cached() -> None:
    sim = engine()
    sim.submit(ask("a", 160, letter="x"), 0.0)
    sim.advance(100.0)
    sim.submit(ask("b", 160, letter="x", adapter="sql"), 100.0)
    assert finished(sim.advance(500.0))["b"].cached_tokens == 0


def test_a_full_cache_holds_up_all_that_wait() -> None:
    sim = engine(num_blocks=4)
    sim.submit(ask("a", 40, answer=8), 0.0)
    assert sim.kv_usage == 0.75
    sim.submit(ask("b", 30, answer=8), 0.0)
    sim.submit(ask("c", 1, answer=1), 0.0)
    # c would fit, but does not overtake b.
    assert (sim.running, sim.waiting) == (1, 2)
    assert finished(sim.advance(FOREVER)).keys() == {"a", "b", "c"}


def test_an_answer_fills_blocks_as_it_grows() -> None:
    sim = engine(num_blocks=4)
    sim.submit(ask("a", 16, answer=20), 0.0)
    assert sim.kv_usage == 0.25
    usages = []
    while (moment := sim.next_event(0.0)) is not None:
        usages += [sim.kv_usage for event in sim.advance(moment) if not isinstance(event, Finished)]
    # Tokens 1-16 are in the second block, the others in the third, until the end.
    assert usages == [0.5] * 16 + [0.75] * 3 + [0.0]


def test_a_request_waits_for_a_slot_of_its_adapter_and_is_overtaken() -> None:
    sim = engine(max_loras=1)
    sim.submit(ask("a", adapter="sql"), 0.0)
    sim.submit(ask("b", adapter="law"), 0.0)
    sim.submit(ask("c", adapter="sql"), 0.0)
    sim.submit(ask("d"), 0.0)
    assert (sim.running_adapters, sim.waiting_adapters) == (("sql",), ("law",))
    assert (sim.running, sim.waiting) == (3, 1)
    events = sim.advance(FOREVER)
    done = finished(events)
    assert done["d"].at == 6.0
    assert done["a"].at == 64.0 + 2 * 2.0
    assert done["b"].queued == done["a"].at
    assert ttft(events, "b") == done["a"].at + 64.0 + 2.0
    assert sim.lora_slots.loaded == ("law",)


def test_abort_of_a_running_request_frees_all_it_held() -> None:
    sim = engine(num_blocks=4, max_loras=1)
    sim.submit(ask("a", 40, answer=8, adapter="sql"), 0.0)
    sim.submit(ask("b", 40, answer=8, adapter="law"), 0.0)
    assert sim.abort("a", 1.0)
    assert (sim.running, sim.waiting) == (1, 0)
    assert sim.lora_slots.in_use == 1
    assert finished(sim.advance(FOREVER)).keys() == {"b"}


def test_abort_during_a_prefill_and_during_a_decode() -> None:
    sim = engine()
    sim.submit(ask("a"), 0.0)
    sim.advance(5.0)
    assert sim.abort("a", 5.0)
    # The step goes on to its end, for nobody.
    assert sim.next_event(5.0) == 6.0
    sim.submit(ask("b", answer=9), 5.5)
    assert not any(event.id == "a" for event in sim.advance(12.0))
    assert sim.abort("b", 12.0)
    assert sim.advance(FOREVER) == []
    assert sim.kv_usage == 0.0


def test_abort_of_a_request_that_waits() -> None:
    sim = engine(max_num_seqs=1)
    sim.submit(ask("a"), 0.0)
    sim.submit(ask("b"), 0.0)
    assert sim.abort("b", 0.0)
    assert finished(sim.advance(FOREVER)).keys() == {"a"}


def test_abort_of_nothing() -> None:
    sim = engine()
    sim.submit(ask("a"), 0.0)
    assert not sim.abort("b", 0.0)
    # It has finished by then, and its events are still to be told.
    assert not sim.abort("a", 50.0)
    assert finished(sim.advance(50.0)).keys() == {"a"}


def test_what_could_never_be_held_is_refused() -> None:
    sim = engine(num_blocks=2)
    with pytest.raises(RequestTooLong) as error:
        sim.submit(ask("a", 30, answer=3), 0.0)
    assert (error.value.tokens, error.value.limit) == (33, 32)
    sim.submit(ask("a", 30, answer=2), 0.0)
    assert finished(sim.advance(FOREVER)).keys() == {"a"}


def test_mistakes_of_the_caller() -> None:
    sim = engine(max_loras=0)
    sim.submit(ask("a"), 10.0)
    with pytest.raises(ValueError, match="in use"):
        sim.submit(ask("a"), 10.0)
    with pytest.raises(ValueError, match="negative"):
        sim.submit(ask("b", answer=-1), 10.0)
    with pytest.raises(ValueError, match="adapters"):
        sim.submit(ask("b", adapter="sql"), 10.0)
    with pytest.raises(ValueError, match="backwards"):
        sim.advance(9.0)
    with pytest.raises(ValueError, match="backwards"):
        sim.abort("a", float("nan"))


def test_an_engine_without_costs_answers_at_once() -> None:
    free = Profile(overhead=0, per_prompt_token=0, inter_token=0, per_sequence=0, adapter_load=0)
    sim = engine(free)
    sim.submit(ask("a", answer=5), 7.0)
    events = sim.advance(7.0)
    assert len(events) == 6
    assert {event.at for event in events} == {7.0}


Step = tuple[float, Request | str]

requests = st.builds(
    lambda head, tail, answer, adapter: (BLOCK * head + tail * 20, answer, adapter),
    st.integers(0, 3),
    st.sampled_from("abc"),
    st.integers(0, 40),
    st.sampled_from(["", "", "sql", "law", "med"]),
)
configs = st.builds(
    EngineConfig,
    profile=st.sampled_from([Profile(), PROFILE, Profile(overhead=0, inter_token=0, per_sequence=0)]),
    max_num_seqs=st.integers(1, 4),
    max_num_batched_tokens=st.integers(4, 80),
    num_blocks=st.integers(7, 20),
    max_loras=st.integers(1, 2),
)


@st.composite
def scenarios(draw: st.DrawFn) -> list[Step]:
    now = 0.0
    steps: list[Step] = []
    for number in range(draw(st.integers(0, 15))):
        now += draw(st.sampled_from([0.0, 0.001, 0.03, 0.5, 7.0]))
        if steps and draw(st.integers(0, 3)) == 0:
            steps.append((now, f"r{draw(st.integers(0, number))}"))
        else:
            prompt, answer, adapter = draw(requests)
            steps.append((now, Request(id=f"r{number}", prompt=prompt, max_tokens=answer, adapter=adapter)))
    return steps


def play(sim: Engine, steps: list[Step], *, fine: bool) -> Iterator[Event | str]:
    """Events, and the ids of aborted requests. `fine` wakes at every moment that the engine names, coarse at none."""
    for now, step in steps:
        while fine and (moment := sim.next_event(sim._now)) is not None and moment <= now:
            yield from sim.advance(moment)
            check(sim)
        if isinstance(step, Request):
            sim.submit(step, now)
        elif sim.abort(step, now):
            yield from sim.advance(now)
            yield step
        check(sim)
    while fine and (moment := sim.next_event(sim._now)) is not None:
        yield from sim.advance(moment)
        check(sim)
    yield from sim.advance(FOREVER)
    check(sim)


def check(sim: Engine) -> None:
    assert sim.running <= sim.config.max_num_seqs
    assert 0 <= sim.kv_usage <= 1
    assert len(sim.lora_slots.loaded) <= sim.config.max_loras


@settings(max_examples=150)
@given(configs, scenarios())
def test_every_request_ends_once_and_leaves_nothing_behind(config: EngineConfig, steps: list[Step]) -> None:
    sim = Engine(config)
    log = list(play(sim, steps, fine=True))
    submitted = {step.id: step for _, step in steps if isinstance(step, Request)}
    aborted = [entry for entry in log if isinstance(entry, str)]
    ended = [event for event in log if isinstance(event, Finished)]
    assert sorted([*aborted, *(event.id for event in ended)]) == sorted(submitted)
    for event in ended:
        request = submitted[event.id]
        tokens = [e for e in log if isinstance(e, FirstToken | Token) and e.id == event.id]
        assert len(tokens) == event.completion_tokens == request.max_tokens
        assert event.cached_tokens < event.prompt_tokens
    assert (sim.running, sim.waiting) == (0, 0)
    assert (sim.kv_cache.used, sim.kv_cache.promised, sim.lora_slots.in_use) == (0, 0, 0)


@settings(max_examples=150)
@given(configs, scenarios())
def test_one_jump_is_as_good_as_many_small_ones(config: EngineConfig, steps: list[Step]) -> None:
    fine = list(play(Engine(config), steps, fine=True))
    coarse = list(play(Engine(config), steps, fine=False))
    assert fine == coarse
    moments = [entry.at for entry in fine if not isinstance(entry, str)]
    assert all(earlier <= later for earlier, later in pairwise(moments))


@settings(max_examples=50)
@given(st.integers(1, 100), st.sampled_from(["", "sql"]))
def test_a_repeated_prompt_is_never_slower(blocks: int, adapter: str) -> None:
    sim = Engine()
    sim.submit(ask("a", blocks * 16 + 3, letter="x", adapter=adapter), 0.0)
    cold = ttft(sim.advance(1000.0), "a")
    sim.submit(ask("b", blocks * 16 + 3, letter="x", adapter=adapter), 1000.0)
    assert ttft(sim.advance(2000.0), "b") < cold
