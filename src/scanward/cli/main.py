"""The ``scanward`` command: loads a subcommand only when it is asked for, and gives every failure one shape.

Exit status: 0 done, 1 a run that failed, 2 bad input (or a refused bundle), 130 interrupted, 141 the reader
of our output went away. Subcommands raise `scanward.errors`; none of them prints an error itself.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import click

from scanward import __version__
from scanward.cli.output import print_error, set_quiet
from scanward.errors import InputError, ScanwardError, SettingsError

# One command is judged on matrices of some hundred numbers: handing them to threads costs five times what it
# saves, and on a guard host the other cores belong to others. Read when numpy is imported, so set before;
# whoever knows better has set them already.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
# Training takes its threads explicitly; while they wait for each other they must not spin on a core that others need.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

INTERRUPTED = 130  # 128 + SIGINT, as shells have it
PIPE_CLOSED = 141  # 128 + SIGPIPE
DISK_TROUBLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS})

# Which extra brings a library that a guard host does not have.
EXTRAS = {
    "lightgbm": "train",
    "matplotlib": "train",
    "onnx": "train",
    "onnxmltools": "train",
    "scipy": "train",
    "skl2onnx": "train",
    "sklearn": "train",
    "threadpoolctl": "train",
    "torch": "train",
    "PIL": "images",
    "argon2": "web",
    "jinja2": "web",
    "starlette": "web",
    "uvicorn": "web",
    "gdcm": "images",
    "openjpeg": "images",
    "jpeg_ls": "images",
    "pyarrow": "parquet",
    "pynetdicom": "dicom",
}


@dataclass(frozen=True, slots=True)
class Lazy:
    """A subcommand that is imported when it is used. ``summary`` is its line in ``scanward --help``."""

    module: str
    attribute: str
    summary: str


COMMANDS = {
    "inspect": Lazy("scanward.cli.inspect", "inspect_command", "Show what a recording holds."),
    "train": Lazy("scanward.cli.train", "train_command", "Learn a scanner's normal commands into a bundle."),
    "judge": Lazy("scanward.cli.judge", "judge_command", "Judge commands: one verdict per command."),
    "explain": Lazy("scanward.cli.explain", "explain_command", "Say why one command was judged as it was."),
    "keys": Lazy("scanward.cli.keys", "keys_group", "Make and show the keys that sign bundles."),
    "dicom": Lazy(
        "scanward.cli.dicom", "dicom_group", "Guard protocols and collect dose reports over DICOM."
    ),
    "audit": Lazy("scanward.cli.audit", "audit_group", "Verify, show and export an audit log."),
    "guard": Lazy("scanward.cli.guard", "guard_command", "Stand between host and gantry."),
    "record": Lazy("scanward.cli.record", "record_command", "Record commands, judging nothing."),
    "emulate": Lazy("scanward.cli.emulate", "emulate_group", "Emulate a scanner: gantry, host, attacks."),
    "operator": Lazy(
        "scanward.cli.operator", "operator_command", "Decide what is on hold; emergency access; mode."
    ),
    "console": Lazy("scanward.cli.console", "console_group", "Serve the operator's console; its accounts."),
    "policy": Lazy("scanward.cli.policy", "policy_group", "Write, check and sign policy and device profile."),
    "mammo": Lazy("scanward.cli.mammo", "mammo_group", "Mammograms: import data sets, phantoms, splits."),
    "tamper": Lazy(
        "scanward.cli.tamper", "tamper_group", "Research: a CycleGAN that inserts and removes lesions."
    ),
    "detect": Lazy("scanward.cli.detect", "detect_group", "Tell altered mammograms from genuine ones."),
    "sign": Lazy("scanward.cli.sign", "sign_command", "Sign DICOM files."),
    "verify": Lazy("scanward.cli.verify", "verify_command", "Verify the signatures of DICOM files."),
    "node": Lazy("scanward.cli.node", "node_command", "A DICOM node that signs or verifies what passes."),
    "study": Lazy(
        "scanward.cli.study", "study_group", "Reader studies: make, serve, export and analyse them."
    ),
    "benchmark": Lazy(
        "scanward.cli.benchmark", "benchmark_group", "Compare detectors of anomalous commands, side by side."
    ),
    "demo": Lazy("scanward.cli.demo", "demo_command", "Try everything on a simulated site."),
    "demo-images": Lazy(
        "scanward.cli.demo_images", "demo_images_command", "Try the images wing on phantoms."
    ),
}

_EXAMPLE = """\b
Example:
  scanward inspect recordings/
  scanward keys new site.key
  scanward train recordings/ --model scanner-1 --key site.key
  scanward judge today.csv --model scanner-1 --out verdicts.csv
  scanward explain today.csv --model scanner-1 --row 17
"""


class _PipeClosedError(Exception):
    """Whoever read our output went away. Not an OSError, so that click leaves it to us."""


@contextmanager
def _telling_pipe_closed() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as exc:
        raise _PipeClosedError from exc


class LazyGroup(click.Group):
    """A group that imports its commands late and turns whatever goes wrong into one line and a status."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order a user meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of ``cmd_name``; None for a name that is no command."""
        lazy = COMMANDS.get(cmd_name)
        if lazy is None:
            return None
        try:
            module = importlib.import_module(lazy.module)
        except ModuleNotFoundError as exc:
            if exc.name != lazy.module:
                raise
            raise ScanwardError(
                f"the command '{cmd_name}' is missing from this installation",
                lazy.module,
                "install Scanward again",
            ) from exc
        command: click.Command = getattr(module, lazy.attribute)
        command.short_help = lazy.summary
        add_common_options(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing a single one."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.summary) for name, lazy in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click, but a mistyped name is answered with the names there are."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            raise SettingsError(
                f"no such command '{name}'", "scanward", f"use one of: {', '.join(self.list_commands(ctx))}"
            )
        return super().resolve_command(ctx, args)

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """As click, but leaves a closed pipe to `main`."""
        with _telling_pipe_closed():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> None:
        """As click, but a command's return value is no exit status, and a closed pipe is left to `main`."""
        with _telling_pipe_closed():
            super().invoke(ctx)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run, print what went wrong in one shape, and exit with its status."""
        argv = list(sys.argv[1:] if args is None else args)
        prog_name = prog_name or "scanward"
        if not standalone_mode:
            return self._run(argv, prog_name, complete_var, **extra)
        flags = argv[: argv.index("--")] if "--" in argv else argv
        try:
            status = self._run(argv, prog_name, complete_var, **extra)
            sys.stdout.flush()  # here a closed pipe can still be answered
        except (_PipeClosedError, BrokenPipeError):
            _silence_stdout()
            sys.exit(PIPE_CLOSED)
        except click.exceptions.NoArgsIsHelpError as exc:
            exc.show()
            sys.exit(exc.exit_code)
        except Exception as exc:  # noqa: BLE001 - the outermost frame: nothing may leave as a traceback
            if "--debug" in flags:
                traceback.print_exc()
            sys.exit(_report(exc, as_json="--json" in flags))
        sys.exit(status if isinstance(status, int) else 0)

    def _run(self, argv: list[str], prog_name: str, complete_var: str | None, **extra: Any) -> Any:
        return super().main(list(argv), prog_name, complete_var, standalone_mode=False, **extra)


def _report(exc: Exception, *, as_json: bool) -> int:
    """Print ``exc`` in the house's shape and return its exit status."""
    if isinstance(exc, click.Abort):
        if not isinstance(exc.__cause__ or exc.__context__, EOFError):
            return INTERRUPTED
        error: ScanwardError = InputError(
            "an answer was needed and standard input is closed", "", "give it as an option"
        )
    else:
        error = in_one_shape(exc)
    try:
        print_error(error, as_json=as_json)
        sys.stdout.flush()
    except OSError:  # nobody reads, or what holds our output is full: the status still says it
        _silence_stdout()
    return error.exit_status


def in_one_shape(exc: Exception) -> ScanwardError:
    """Any exception as one of ours: WHAT, WHERE, WHAT TO DO.

    Ours pass unchanged. Usage errors become `SettingsError`, a file that is not there or may not be read
    `InputError`, a library that is not installed names its extra. The rest is a bug, and says so.
    """
    if isinstance(exc, ScanwardError):
        return exc
    if isinstance(exc, click.ClickException):
        context = getattr(exc, "ctx", None)
        path = context.command_path if context else "scanward"
        message = exc.format_message().strip().rstrip(".")
        return SettingsError(message[:1].lower() + message[1:], path, f"see '{path} --help'")
    if isinstance(exc, ImportError):
        return _missing_library(exc)
    if isinstance(exc, OSError) and (exc.filename is not None or exc.errno in DISK_TROUBLE):
        what = (exc.strerror or type(exc).__name__).lower()
        where = (
            os.fsdecode(exc.filename) if isinstance(exc.filename, str | bytes) else str(exc.filename or "")
        )
        if isinstance(exc, FileNotFoundError | PermissionError | IsADirectoryError | NotADirectoryError):
            return InputError(what, where, "check the path and who may read or write it")
        return ScanwardError(what, where, "check the disk and try again")
    if isinstance(exc, OSError) and "cannot open shared object file" in str(exc):
        library = str(exc).partition(":")[0]
        return ScanwardError(
            f"the system library {library} is missing", "", "install it (Debian has libgomp.so.1 in libgomp1)"
        )
    return ScanwardError(
        f"unexpected {type(exc).__name__}: {exc}" if str(exc) else f"unexpected {type(exc).__name__}",
        _place(exc),
        "this is a bug: run again with --debug and report what it prints",
    )


def _missing_library(exc: ImportError) -> ScanwardError:
    library = (exc.name or "").partition(".")[0]
    extra = EXTRAS.get(library)
    if extra:
        return ScanwardError(
            f"this needs {library}, which is not installed", "", f"pip install 'scanward[{extra}]'"
        )
    return ScanwardError(f"cannot be imported: {exc}", exc.name or "", "install Scanward again")


def _place(exc: Exception) -> str:
    """Module and line, inside Scanward where possible, that raised ``exc``."""
    frames = traceback.extract_tb(exc.__traceback__)
    here = str(Path(__file__).resolve().parent.parent)
    ours = [f for f in frames if f.filename.startswith(here) and f.filename != __file__]
    if not frames:
        return ""
    frame = (ours or frames)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"


def _silence_stdout() -> None:
    """Point standard output at nothing, so that the interpreter's last flush cannot fail again."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def add_common_options(command: click.Command) -> None:
    """Give ``--quiet`` and ``--debug`` to a command (or to all loaded commands of a group), once."""
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            add_common_options(inner)
        if not command.invoke_without_command:
            return
    present = {flag for option in command.params for flag in option.opts}
    command.params.extend(option for option in _common_options() if not present & set(option.opts))


def _common_options() -> list[click.Option]:
    def remember(context: click.Context, _: click.Parameter, given: bool) -> None:
        if given:
            set_quiet(context)

    return [
        click.Option(
            ["--quiet"],
            is_flag=True,
            expose_value=False,
            callback=remember,
            help="No progress bars, no remarks.",
        ),
        click.Option(
            ["--debug"],
            is_flag=True,
            expose_value=False,
            help="Print the traceback of an error too.",
        ),
    ]


cli = LazyGroup(
    name="scanward",
    help="Judge what a CT scanner is told to do, before it does it.\n\n"
    "Not a medical device; not to be connected to a clinical scanner outside an approved study.",
    epilog=_EXAMPLE,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    params=_common_options(),
    no_args_is_help=True,
)
click.version_option(__version__, "--version", prog_name="scanward", message="%(prog)s %(version)s")(cli)


def main() -> NoReturn:
    """Entry point of the ``scanward`` command."""
    # Started with a closed stream (`>&-`) there is none, and printing is no reason to fail.
    sys.stdout = sys.stdout or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - for the whole run
    sys.stderr = sys.stderr or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - likewise
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure:
            reconfigure(errors="backslashreplace")  # a terminal that lacks a character is no reason to fail
    cli.main()
    raise AssertionError("unreachable: the group exits")
