"""The `gradwire` command."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from pydantic import ValidationError

from gradwire_server import __version__
from gradwire_server.settings import Settings

_BUSY_WAIT: Final = "20"
"""Binary logarithm of the clock ticks for which OpenBLAS's threads wait busily for more work.

Its own choice, 26, is about 20 ms: with a request every few milliseconds they would never rest, and
take the processor from the threads that read and answer. This is some 0.4 ms, which lasts from one
product of matrices to the next, and no longer.
"""

app = typer.Typer(
    name="gradwire",
    help="Define-by-run automatic differentiation as a service.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _with_a_flag_for_each_setting(command: Any) -> Any:
    """Let `command(**flags)` take every field of `Settings` as a flag; None where not given."""
    parameters = []
    for name, field in Settings.model_fields.items():
        option = typer.Option(
            help=f"{field.description} [default: {field.default}]",
            envvar=f"GRADWIRE_{name.upper()}",
        )
        kind: Any = field.annotation
        annotation = Annotated[kind | None, option]
        parameters.append(
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
            )
        )
    command.__signature__ = inspect.Signature(parameters)
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    return command


@app.command()
@_with_a_flag_for_each_setting
def serve(**flags: Any) -> None:
    """Run a server until SIGTERM or SIGINT. Every flag has a GRADWIRE_* variable."""
    # Read when NumPy loads OpenBLAS, so it must be there before the server is imported.
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", _BUSY_WAIT)
    from gradwire_server import server, supervisor

    try:
        settings = Settings(**{name: value for name, value in flags.items() if value is not None})
        if settings.worker_count > 1:
            raise typer.Exit(supervisor.serve(settings))
        server.serve(settings)
    except ValidationError as error:
        for each in error.errors():
            typer.echo(f"{'.'.join(map(str, each['loc']))}: {each['msg']}", err=True)
        raise typer.Exit(2) from None
    except OSError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


@app.command()
def health(
    address: Annotated[
        str, typer.Option(help="Server to ask.", envvar="GRADWIRE_ADDRESS")
    ] = "127.0.0.1:50051",
    timeout: Annotated[float, typer.Option(help="Seconds to wait for an answer.")] = 3.0,
) -> None:
    """Ask a server whether it is serving; the exit code is 0 if it is, else 1."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    # A server that listens on all interfaces is asked on this machine's own.
    target = address.replace("0.0.0.0:", "127.0.0.1:").replace("[::]:", "[::1]:")
    with grpc.insecure_channel(target) as channel:
        try:
            response = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=timeout
            )
        except grpc.RpcError as error:
            typer.echo(f"{target}: {error.code().name}: {error.details()}", err=True)
            raise typer.Exit(1) from None
    name = health_pb2.HealthCheckResponse.ServingStatus.Name(response.status)
    typer.echo(f"{target}: {name}")
    if response.status != health_pb2.HealthCheckResponse.SERVING:
        raise typer.Exit(1)


@app.command()
def demo(
    address: Annotated[
        str | None, typer.Option(help="Server to use. [default: an embedded one]")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the picture of the graph goes.")] = Path(
        "out/computation_graph.svg"
    ),
) -> None:
    """Walk ten facts about computation graphs, and draw one."""
    from gradwire_server import demo

    raise typer.Exit(demo.run(address, out))


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)
