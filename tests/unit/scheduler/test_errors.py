from scheduler.errors import NoReadyPod, PluginConfigError, Saturated, SchedulingError


def test_saturated_names_the_filter() -> None:
    error = Saturated("least-request")
    assert error.filter == "least-request"
    assert "least-request" in str(error)
    assert isinstance(error, SchedulingError)
    assert issubclass(NoReadyPod, SchedulingError)


def test_a_plugin_error_says_where() -> None:
    error = PluginConfigError("no", ("pluginConfig", 0), "yes")
    assert (error.message, error.path, error.hint, str(error)) == ("no", ("pluginConfig", 0), "yes", "no")
