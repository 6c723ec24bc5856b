"""One profile of hypothesis for all tests: a busy machine is no reason to fail, and each failure can be run again."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "infer-gateway",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.load_profile("infer-gateway")
