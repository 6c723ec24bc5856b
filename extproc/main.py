"""The command line. Exit codes: 0 done, 1 it failed, 2 the command or the configuration is wrong."""

import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from extproc import __version__

app = typer.Typer(
    name="infer-gateway",
    help="An LLM inference gateway: Envoy carries the traffic, this sidecar decides where it goes.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

ConfigOption = Annotated[
    str | None,
    typer.Option(
        "--config",
        metavar="PATH",
        help="A ConfigMap volume (directory), a YAML file, or a ConfigMap manifest. "
        "Default: INFER_GATEWAY_CONFIG, else /etc/config if it is there.",
    ),
]


def _admin(text: str) -> str:
    from extproc.admin.address import admin_address

    try:
        return admin_address(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


AdminOption = Annotated[
    str, typer.Option(parser=_admin, metavar="ADDRESS", help="host:port or URL of the sidecar's admin pages.")
]


def _version(wanted: bool) -> None:
    if wanted:
        from extproc.process.build_info import compiled

        print(f"{__version__} (compiled)" if compiled() else __version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def fail(message: str, code: int) -> NoReturn:
    print(message, file=sys.stderr)
    raise typer.Exit(code)


@app.command()
def serve(
    config: ConfigOption = None,
    reload: Annotated[
        bool,
        typer.Option("--reload", help="Watch the configuration: plugins, routes and log level change without restart."),
    ] = False,
    place: Annotated[str | None, typer.Option(hidden=True, help="Which of several processes this is.")] = None,
    configuration: Annotated[int, typer.Option(hidden=True, help="Open file with the configuration in force.")] = -1,
) -> None:
    """Run the sidecar until SIGTERM or SIGINT."""
    from extproc.config import ConfigError, load
    from extproc.errors import GatewayError

    try:
        if configuration >= 0:
            from extproc.workers.given import take

            loaded = take(configuration).loaded(os.environ)
        else:
            loaded = load(config, os.environ)
    except ConfigError as error:
        fail(str(error), 2)
    try:
        if place is None and not loaded.config.transport.alone:
            from extproc.workers.supervisor import run as supervise

            arguments = [*(("--config", config) if config is not None else ()), *(("--reload",) if reload else ())]
            supervise(loaded, arguments)
            return
        from extproc.server import run
        from extproc.workers.place import place_of

        run(loaded, reload_path=config, reload=reload, place=place_of(loaded.config.transport, place))
    except GatewayError as error:
        fail(str(error), 2)


@app.command()
def check(config: ConfigOption = None) -> None:
    """Print the effective configuration, or every mistake in it."""
    from extproc.config import ConfigError, dump, load, rule

    try:
        loaded = load(config, os.environ)
    except ConfigError as error:
        fail(str(error), 2)
    print(f"# {loaded.source}")
    print(f"# rule: {rule(loaded.config)}")
    for warning in loaded.warnings:
        print(f"# warning: {warning}")
    print(dump(loaded.config), end="")


@app.command()
def convert(
    source: Annotated[
        str,
        typer.Argument(metavar="FILE", help="EndpointPickerConfig, or Kthena's router ConfigMap; - is standard input."),
    ],
    pool: Annotated[
        str | None, typer.Option(help="Name of the InferencePool; writes where pods are and how gateways call.")
    ] = None,
) -> None:
    """Print a configuration made from that of another router, with a note on each thing that is not the same."""
    from extproc.convert.result import CannotConvert
    from extproc.convert.source import convert as converted

    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")
        made = converted(text)
    except (OSError, UnicodeDecodeError, CannotConvert) as error:
        fail(f"{source}: {error}", 2)
    if pool is not None:
        made.serve(pool)
    print(made.text("standard input" if source == "-" else Path(source).name), end="")


@app.command()
def envoy(
    config: ConfigOption = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Write this file instead, at once: its readers see the old text or the new."),
    ] = None,
) -> None:
    """Print Envoy's bootstrap for a configuration."""
    from extproc.config import ConfigError, load
    from extproc.envoy.bootstrap import render

    try:
        loaded = load(config, os.environ)
    except ConfigError as error:
        fail(str(error), 2)
    if loaded.config.transport.tls is not None:
        fail("transport.tls: Envoy as it is set up here speaks plain text to the sidecar; TLS is for other gateways", 2)
    text = render(loaded.config)
    if output is None:
        print(text, end="")
        return
    from extproc.process.files import replace_file

    try:
        replace_file(output, text)
    except OSError as error:
        fail(f"{output}: {error.strerror}", 1)


@app.command()
def api_key(
    name: Annotated[str, typer.Argument(help="Whose key it is: in logs, and in identity headers as `sub`.")],
    model: Annotated[list[str] | None, typer.Option(help="A model that it may use; may come again. None: all.")] = None,
    expires: Annotated[
        str | None, typer.Option(help="The last day that it is good: 2030-01-31. None: for ever.")
    ] = None,
) -> None:
    """Make an API key: print it, and the entry for the file of `auth.apiKeys`. The key itself is kept nowhere."""
    from extproc.auth.apikeys import ApiKeysError, entry, hashed, new_key

    key = new_key()
    try:
        text = entry(name, hashed(key), models=model, expires=expires)
    except ApiKeysError as error:
        fail(str(error), 2)
    print(f"# The key, for its holder; it is shown only here:\n#   {key}")
    print("# The entry, for the list `keys` of the file of auth.apiKeys:")
    print(text, end="")


@app.command()
def demo(
    config: ConfigOption = None,
    pods: Annotated[int, typer.Option(min=1, max=64, help="Model servers to start.")] = 3,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Envoy's port; 0 = a free one.")] = 0,
    admin_port: Annotated[int, typer.Option(min=0, max=65535, help="The sidecar's admin port; 0 = a free one.")] = 0,
    speedup: Annotated[float, typer.Option(min=0.01, max=1000.0, help="How much faster than real the models are.")] = 4,
    replicas: Annotated[int, typer.Option(min=1, max=8, help="Gateways; several share what they know by a Redis.")] = 1,
    once: Annotated[bool, typer.Option("--once", help="Exit after the workload; 1 if a request failed.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
) -> None:
    """Run the whole stack on this machine, send a short workload through it, and stay up."""
    from extproc.config import ConfigError
    from extproc.demo.process import ChildFailed
    from extproc.demo.run import DemoOptions, run

    options = DemoOptions(config, pods, port, admin_port, speedup, replicas, once, json)
    try:
        code = run(options)
    except ConfigError as error:
        fail(str(error), 2)
    except ChildFailed as error:
        fail(str(error), 1)
    raise typer.Exit(code)


@app.command()
def simulate(
    trace: Annotated[
        Path | None,
        typer.Argument(help="A trace in Mooncake's format (JSON lines, may be gzipped).", exists=True, dir_okay=False),
    ] = None,
    workload: Annotated[
        str | None,
        typer.Option(help="Instead of a trace: agents, shared-prefixes, closed-loop or unique."),
    ] = None,
    parameter: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A parameter of the workload; again.")
    ] = None,
    config: Annotated[
        list[str] | None, typer.Option(metavar="PATH", help="A configuration, as of serve; may be given again.")
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(help="A configuration by name: default, page, sticky, random, …, all; may be given again."),
    ] = None,
    pods: Annotated[int, typer.Option(min=1, max=4096, help="How many, all alike.")] = 8,
    engine: Annotated[str, typer.Option(help="8b-h100, 32b-2xh100, or a YAML file.")] = "8b-h100",
    fleet: Annotated[Path | None, typer.Option(help="YAML file of pods that differ, join, leave, fail.")] = None,
    gateways: Annotated[int, typer.Option(min=1, max=64, help="How many share the requests.")] = 1,
    gateway_delay: Annotated[
        str, typer.Option(metavar="DURATION", help="Until one gateway knows what another did; never: they do not.")
    ] = "2ms",
    rate: Annotated[float, typer.Option(min=0.001, max=1000, help="Divides the times of a trace.")] = 1.0,
    spread: Annotated[
        str, typer.Option(metavar="DURATION", help="Spreads a trace's arrivals over its clock's ticks of that length.")
    ] = "0s",
    block_tokens: Annotated[int, typer.Option(min=16, help="Tokens that a hash id of the trace stands for.")] = 512,
    seed: Annotated[int, typer.Option(min=0, help="The first; equal seeds give equal results.")] = 1,
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="Runs of each configuration.")] = 1,
    jobs: Annotated[int, typer.Option(min=1, max=256, help="Processes.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON on stdout.")] = False,
    html: Annotated[
        Path | None, typer.Option(help="Write a page with tables and plots, one file, to this path.")
    ] = None,
    plots: Annotated[Path | None, typer.Option(help="Write plots as PNG and SVG into this folder.")] = None,
) -> None:
    """Replay a trace against modelled engines under several configurations, and compare them. Nothing is served."""
    from extproc.config.fields import DAY, Seconds
    from extproc.errors import GatewayError
    from extproc.simulation.command import Options, parameters, run
    from extproc.simulation.scenario import Source

    if (trace is None) == (workload is None):
        fail("name a trace, or a --workload", 2)
    try:
        delay = None if gateway_delay == "never" else Seconds(0, DAY).read(gateway_delay)
        source = Source(
            path=str(trace or ""), block_tokens=block_tokens, spread=Seconds(0, DAY).read(spread),
            generated=workload or "", parameters=parameters(parameter or ()), rate=rate,
        )  # fmt: skip
        run(
            Options(
                source=source, configs=config or (), policies=policy or (), pods=pods, engine=engine,
                fleet=None if fleet is None else str(fleet), gateways=gateways, delay=delay, seed=seed, seeds=seeds,
                jobs=jobs, json=json, html=html, plots=plots,
            )
        )  # fmt: skip
    except (GatewayError, ValueError) as error:
        fail(str(error), 2)


@app.command()
def tune(
    trace: Annotated[
        Path | None,
        typer.Argument(help="A trace in Mooncake's format (JSON lines, may be gzipped).", exists=True, dir_okay=False),
    ] = None,
    workload: Annotated[str | None, typer.Option(help="Instead of a trace, as of simulate.")] = None,
    parameter: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A parameter of the workload; again.")
    ] = None,
    config: ConfigOption = None,
    goal: Annotated[str, typer.Option(help="What is to be small: ttft_p90, ttft_mean, tpot_p90, seconds_p90, …")] = (
        "ttft_p90"
    ),
    tries: Annotated[int, typer.Option(min=1, max=10_000, help="Configurations that are tried.")] = 40,
    pods: Annotated[int, typer.Option(min=1, max=4096, help="How many, all alike.")] = 8,
    engine: Annotated[str, typer.Option(help="8b-h100, 32b-2xh100, or a YAML file.")] = "8b-h100",
    fleet: Annotated[Path | None, typer.Option(help="YAML file of pods that differ, join, leave, fail.")] = None,
    rate: Annotated[float, typer.Option(min=0.001, max=1000, help="Divides the times of a trace.")] = 1.0,
    spread: Annotated[
        str, typer.Option(metavar="DURATION", help="Spreads a trace's arrivals over its clock's ticks of that length.")
    ] = "0s",
    block_tokens: Annotated[int, typer.Option(min=16, help="Tokens that a hash id of the trace stands for.")] = 512,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds find equal configurations.")] = 1,
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="Of the better ones, and of the last comparison.")] = 5,
    jobs: Annotated[int, typer.Option(min=1, max=256, help="Processes.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON on stdout.")] = False,
) -> None:
    """Search better numbers for a configuration by simulation, and say whether they hold on what was held out."""
    from extproc.config.fields import DAY, Seconds
    from extproc.errors import GatewayError
    from extproc.simulation.command import TuneOptions, parameters, run_tune
    from extproc.simulation.scenario import Source

    if (trace is None) == (workload is None):
        fail("name a trace, or a --workload", 2)
    try:
        source = Source(
            path=str(trace or ""), block_tokens=block_tokens, spread=Seconds(0, DAY).read(spread),
            generated=workload or "", parameters=parameters(parameter or ()), rate=rate,
        )  # fmt: skip
        run_tune(
            TuneOptions(
                source=source, config=config, pods=pods, engine=engine, fleet=None if fleet is None else str(fleet),
                goal=goal, tries=tries, seed=seed, seeds=seeds, jobs=jobs, json=json,
            )
        )  # fmt: skip
    except (GatewayError, ValueError) as error:
        fail(str(error), 2)


@app.command()
def explain(
    body: Annotated[
        typer.FileBinaryRead, typer.Argument(help="File with a request's body (JSON); - is standard input.")
    ],
    admin: AdminOption = "127.0.0.1:9090",
    path: Annotated[str, typer.Option(help="Path of the request: says which API it is of.")] = "/v1/chat/completions",
    json: Annotated[bool, typer.Option("--json", help="Print the decision as JSON.")] = False,
) -> None:
    """Ask a running sidecar where it would send a request now, and why. Nothing is routed."""
    from extproc.admin.explain import ExplainError, run

    try:
        run(body.read(), admin, path, as_json=json)
    except ExplainError as error:
        fail(str(error), 1)


@app.command()
def top(
    admin: AdminOption = "127.0.0.1:9090",
    interval: Annotated[str, typer.Option(metavar="DURATION", help="Time between two looks.")] = "1s",
    once: Annotated[bool, typer.Option("--once", help="Print one frame and exit; 1 if there is no answer.")] = False,
) -> None:
    """Watch a running sidecar: pods, rates, outcomes and the last decisions."""
    from extproc.admin.top.run import NoAnswer, run
    from extproc.config.fields import Seconds

    try:
        seconds = Seconds(0.1, 3600).read(interval)
    except ValueError as error:
        fail(f"--interval {error}", 2)
    try:
        run(admin, seconds, once=once)
    except NoAnswer as error:
        fail(str(error), 1)


@app.command()
def schema(
    markdown: Annotated[bool, typer.Option("--markdown", help="The reference for people instead.")] = False,
) -> None:
    """Print the JSON Schema of the configuration."""
    from json import dumps

    from extproc.config import json_schema
    from extproc.config.reference import reference

    print(reference().rstrip("\n") if markdown else dumps(json_schema(), indent=2, ensure_ascii=False))


@app.command("model-server")
def model_server(
    host: Annotated[str, typer.Option(help="IP address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the first replica; 0 = free ones.")] = 8000,
    replicas: Annotated[int, typer.Option(min=1, help="How many.")] = 1,
    model: Annotated[str, typer.Option(help="Name of the model.")] = "demo-8b",
    speedup: Annotated[float, typer.Option(min=0.01, max=1000.0, help="How much faster than real.")] = 1,
    lora: Annotated[list[str] | None, typer.Option(help="Name of a LoRA adapter; may be given again.")] = None,
    name: Annotated[
        str, typer.Option(help="Of the replica, in x-modelsim-replica; with several, what their names begin with.")
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="Print the addresses as JSON on stdout too.")] = False,
) -> None:
    """Run model servers that need no GPU."""
    from modelsim.cli import run

    try:
        code = run(
            host=host, port=port, replicas=replicas, model=model, speedup=speedup, lora=lora or (), name=name,
            json=json,
        )  # fmt: skip
    except ValueError as error:
        fail(str(error), 2)
    raise typer.Exit(code)


@app.command()
def version() -> None:
    """Print the version, and whether it is the compiled one."""
    _version(True)


def main() -> None:
    app()
