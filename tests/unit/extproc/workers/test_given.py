import os
from pathlib import Path

from extproc.config import GatewayConfig, load, loads
from extproc.workers.given import Given, take

STARTED = "admin: {port: 9}\nlogging: {level: info}\n"


def test_it_is_read_from_memory_whatever_is_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "configuration.yaml"
    path.write_text(STARTED)
    loaded = load(str(path), {})
    given = Given(loaded.text, loaded.source)
    path.write_text("admin: [wrong")
    memory = given.memory()
    # As each process inherits it: several may read it.
    for _ in range(2):
        assert take(os.dup(memory)) == given
    os.close(memory)
    again = given.loaded({})
    assert (again.config, again.source, again.text) == (loaded.config, loaded.source, STARTED)


def test_what_was_put_into_force_since_and_what_waits() -> None:
    applied = Given(STARTED, "x", "admin: {port: 9}\nlogging: {level: debug}\n").loaded({})
    assert (applied.config.logging.level, applied.config.admin.port) == ("debug", 9)
    assert applied.text is not None
    waiting = Given(STARTED, "x", "admin: {port: 10}\nlogging: {level: debug}\n").loaded({})
    assert waiting.config == applied.config
    assert waiting.text is None


def test_one_that_had_no_configuration_has_none() -> None:
    assert Given(None, "defaults").loaded({}).config == GatewayConfig()
    applied = Given(None, "defaults", "logging: {level: debug}").loaded({})
    assert applied.config == loads("logging: {level: debug}", "x").config
