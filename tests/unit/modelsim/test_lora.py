from modelsim.lora import LoraSlots


def test_loading_takes_time_and_a_loaded_adapter_none() -> None:
    slots = LoraSlots(1, 2.0)
    assert slots.acquire("a", 10.0) == 12.0
    assert slots.acquire("a", 11.0) == 12.0
    assert slots.in_use == 1


def test_an_adapter_in_use_keeps_its_slot() -> None:
    slots = LoraSlots(1, 2.0)
    slots.acquire("a", 0.0)
    assert slots.fits("a")
    assert not slots.fits("b")
    slots.release("a")
    assert slots.fits("b")
    assert slots.loaded == ("a",)


def test_the_least_recently_used_idle_adapter_makes_room() -> None:
    slots = LoraSlots(3, 2.0)
    for name in ("a", "b", "c", "b", "a"):
        slots.acquire(name, 0.0)
    for name in ("a", "a", "b", "b"):
        slots.release(name)
    # c is the oldest, but in use; b is older than a.
    assert slots.acquire("d", 5.0) == 7.0
    assert set(slots.loaded) == {"a", "c", "d"}
    assert slots.in_use == 2
