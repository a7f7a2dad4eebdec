"""The frame of the command line: one shape for every failure, one exit status for each kind."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
import tomllib
import types
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from scanward import __version__, errors
from scanward.cli import main as entry_point
from scanward.cli import output
from scanward.cli.main import COMMANDS, EXTRAS, Lazy, cli, in_one_shape

RUN = [sys.executable, "-c", "from scanward.cli import main; main()"]

Run = Callable[..., Result]
Hang = Callable[[Callable[[], object]], Run]


@pytest.fixture
def a_command(monkeypatch: pytest.MonkeyPatch) -> Hang:
    """Hang a command with any body into the group, as a module that is loaded lazily."""

    def hang(body: Callable[[], object]) -> Run:
        @click.command("probe")
        @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
        @click.option("--size", type=click.IntRange(1, 9), default=1, help="A number.")
        def probe(as_json: bool, size: int) -> object:
            """Probe."""
            return body()

        module = types.ModuleType("scanward.cli.probe_for_tests")
        module.probe = probe  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(COMMANDS, "probe", Lazy(module.__name__, "probe", "Probe."))
        return lambda *arguments: CliRunner().invoke(cli, ["probe", *arguments])

    return hang


def failing(a_command: Hang, exc: BaseException) -> Run:
    def body() -> None:
        raise exc

    return a_command(body)


OURS = [
    (errors.InputError("cannot be read", "a.csv", "check it"), 2),
    (errors.DecodeError("truncated", "a.dcm", "get it again"), 2),
    (errors.DialectError("no column kV", "d.toml", "name it"), 2),
    (errors.SettingsError("budget too small", "--budget", "give 0.01"), 2),
    (errors.RequestError("signed out", "/study", "sign in", 401), 2),
    (errors.LeakError("a patient in two parts", "split.json", "split again"), 2),
    (errors.BundleError("refused", "m", "train it again"), 2),
    (errors.SignatureError("unsigned", "m", "sign it"), 2),
    (errors.RollbackError("older than seen", "m", "use the newer"), 2),
    (errors.KeyFileError("no key", "k", "make one"), 2),
    (errors.LearningError("too few examinations", "a.csv", "record more"), 1),
    (errors.AuditError("record 7 is damaged", "log", "verify it"), 1),
    (errors.AuditFullError("disk full", "log", "free some space"), 1),
    (errors.LinkError("nobody answers", "gantry", "check the cable"), 1),
    (errors.PolicyError("the policy is empty", "policy.toml", "write one"), 2),
    (errors.ShippingError("cannot be reached", "log.example.org", "check it"), 1),
    (errors.ScanwardError("failed", "somewhere", "try again"), 1),
]


@pytest.mark.parametrize(("error", "status"), OURS, ids=lambda v: type(v).__name__)
def test_every_error_of_ours_is_one_line_and_its_status(
    a_command: Hang, error: errors.ScanwardError, status: int
) -> None:
    result = failing(a_command, error)()
    assert result.exit_code == status
    assert result.stdout == ""
    assert result.stderr == f"error: {error.what}, {error.where}, {error.todo}\n"


@pytest.mark.parametrize(("error", "status"), OURS, ids=lambda v: type(v).__name__)
def test_with_json_it_is_the_same_on_standard_output(
    a_command: Hang, error: errors.ScanwardError, status: int
) -> None:
    result = failing(a_command, error)("--json")
    assert result.exit_code == status
    assert result.stderr == ""
    assert json.loads(result.stdout) == {
        "error": type(error).__name__,
        "what": error.what,
        "where": error.where,
        "todo": error.todo,
    }


def test_the_list_above_names_the_whole_tree() -> None:
    tree = {e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, errors.ScanwardError)}
    assert {type(error) for error, _ in OURS} == tree


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["trian"], 2, ["no such command 'trian'", "inspect, train, judge"]),
        (["--foo"], 2, ["no such option", "scanward --help"]),
        (["probe", "--foo"], 2, ["no such option", "scanward probe --help"]),
        (["probe", "--size", "77"], 2, ["--size", "77", "scanward probe --help"]),
        (["probe", "--size", "x"], 2, ["'x'", "scanward probe --help"]),
        (["probe", "surplus"], 2, ["surplus", "scanward probe --help"]),
    ],
)
def test_usage_errors_have_the_same_shape(
    a_command: Hang, arguments: list[str], status: int, words: list[str]
) -> None:
    a_command(lambda: None)
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == status
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert [word for word in words if word not in result.stderr] == []
    in_json = CliRunner().invoke(cli, [*arguments, "--json"])
    assert in_json.exit_code == status
    assert set(json.loads(in_json.stdout)) == {"error", "what", "where", "todo"}
    assert json.loads(in_json.stdout)["error"] == "SettingsError"


@pytest.mark.parametrize(
    ("exc", "status", "words"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "a.csv"), 2, ["a.csv", "no such file"]),
        (PermissionError(errno.EACCES, "Permission denied", "a.csv"), 2, ["a.csv", "permission denied"]),
        (IsADirectoryError(errno.EISDIR, "Is a directory", b"folder"), 2, ["folder", "is a directory"]),
        (OSError(errno.ENOSPC, "No space left on device", "m/x"), 1, ["m/x", "no space left"]),
        (OSError(errno.ENOSPC, "No space left on device"), 1, ["no space left on device", "check the disk"]),
        (OSError("libgomp.so.1: cannot open shared object file"), 1, ["libgomp.so.1 is missing", "libgomp1"]),
        (OSError("something else"), 1, ["unexpected OSError", "--debug"]),
        (
            ModuleNotFoundError("no module 'lightgbm'", name="lightgbm"),
            1,
            ["lightgbm", "scanward[train]"],
        ),
        (ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn"), 1, ["torch", "scanward[train]"]),
        (ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow"), 1, ["scanward[parquet]"]),
        (ModuleNotFoundError("No module named 'rich'", name="rich"), 1, ["rich", "install Scanward again"]),
        (ValueError("surprise"), 1, ["unexpected ValueError: surprise", "test_cli.py:", "--debug"]),
        (RecursionError(), 1, ["unexpected RecursionError", "--debug"]),
        (MemoryError(), 1, ["unexpected MemoryError"]),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, BaseException) else "",
)
def test_foreign_errors_are_one_line_too(
    a_command: Hang, exc: Exception, status: int, words: list[str]
) -> None:
    run = failing(a_command, exc)
    result = run()
    assert result.exit_code == status
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert [word for word in words if word not in result.stderr] == []
    in_json = run("--json")
    assert (in_json.exit_code, in_json.stderr) == (status, "")
    assert set(json.loads(in_json.stdout)) == {"error", "what", "where", "todo"}


def test_the_traceback_is_shown_when_asked_for(a_command: Hang) -> None:
    run = failing(a_command, ValueError("surprise"))
    assert "Traceback" not in run().stderr
    assert "Traceback" in run("--debug").stderr
    assert "error: unexpected ValueError" in run("--debug").stderr


def test_interrupted_is_130(a_command: Hang) -> None:
    result = failing(a_command, KeyboardInterrupt())()
    assert result.exit_code == 130
    assert "Traceback" not in result.stderr


def test_a_question_without_anybody_to_answer_is_bad_input(
    a_command: Hang,
) -> None:
    result = failing(a_command, EOFError())()
    assert result.exit_code == 2
    assert "standard input is closed" in result.stderr


def test_what_a_command_returns_is_no_exit_status(a_command: Hang) -> None:
    assert a_command(lambda: 7)().exit_code == 0


def test_a_command_may_choose_its_exit_status(a_command: Hang) -> None:
    assert a_command(lambda: click.get_current_context().exit(3))().exit_code == 3


def test_text_from_outside_cannot_steer_the_terminal(a_command: Hang) -> None:
    result = failing(a_command, errors.InputError("bad\x1b[2J name", "a\nerror: b\u202e.csv", "\udcff"))()
    assert result.stderr == "error: bad\\x1b[2J name, a\\nerror: b\\u202e.csv, \\udcff\n"


def test_a_command_that_is_not_there_is_a_broken_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COMMANDS, "gone", Lazy("scanward.cli.gone", "gone_command", "Gone."))
    result = CliRunner().invoke(cli, ["gone"])
    assert result.exit_code == 1
    assert result.stderr == (
        "error: the command 'gone' is missing from this installation, scanward.cli.gone, "
        "install Scanward again\n"
    )


def test_help_lists_all_commands_without_importing_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COMMANDS, "gone", Lazy("scanward.cli.gone", "gone_command", "Gone."))
    result = CliRunner().invoke(cli, ["--help"])
    assert result.exit_code == 0
    assert [name for name in COMMANDS if f"  {name}" not in result.stdout] == []


def test_version() -> None:
    result = CliRunner().invoke(cli, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"scanward {__version__}\n")


def test_nothing_typed_shows_the_help() -> None:
    result = CliRunner().invoke(cli, [])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Example:" in result.stderr


def test_every_library_of_an_extra_is_known(repository: Path) -> None:

    extras = tomllib.loads((repository / "pyproject.toml").read_text("utf-8"))["project"][
        "optional-dependencies"
    ]
    for extra in ("train", "parquet"):
        for requirement in extras[extra]:
            name = requirement.partition(">")[0].partition("=")[0].replace("scikit-learn", "sklearn")
            assert EXTRAS[name] == extra


def test_our_own_errors_pass_through_unchanged() -> None:
    error = errors.DialectError("x", "y", "z")
    assert in_one_shape(error) is error


# --- in a process of its own, as a user has it


def test_the_entry_point_exits_with_the_status() -> None:
    done = subprocess.run([*RUN, "trian", "--json"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert json.loads(done.stdout)["where"] == "scanward"
    assert callable(entry_point)


def test_a_closed_pipe_ends_quietly() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as closed:
        done = subprocess.run(
            [*RUN, "--help"], stdout=closed, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_output_that_cannot_be_written_is_a_failed_run() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*RUN, "--help"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    assert done.returncode == 1
    assert done.stderr == "error: no space left on device, check the disk and try again\n"


def test_closed_streams_are_no_reason_to_fail() -> None:
    shell = f'exec {sys.executable} -c "from scanward.cli import main; main()" --help >&- 2>&-'
    done = subprocess.run(["sh", "-c", shell], timeout=60, check=False)
    assert done.returncode == 0


def test_an_interrupt_from_the_keyboard_is_130() -> None:
    code = (
        "import click, sys, time, types\n"
        "from scanward.cli.main import COMMANDS, Lazy, cli\n"
        "module = sys.modules['slow'] = types.ModuleType('slow')\n"
        "module.slow = click.Command('slow', callback=lambda: (print('ready', flush=True), time.sleep(60)))\n"
        "COMMANDS['slow'] = Lazy('slow', 'slow', 'Slow.')\n"
        "cli.main(['slow'])\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        running.send_signal(signal.SIGINT)
        _, stderr = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "Traceback" not in stderr


def test_a_poor_terminal_encoding_breaks_nothing() -> None:
    code = "from scanward.cli import main, output; import sys; sys.argv = ['scanward', '--version'];"
    code += "\ntry: main()\nexcept SystemExit: output.print_table(['größe'], [['Schädel']])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 0, done.stderr
    assert "Sch\\xe4del" in done.stdout


# --- output


def test_tables_in_a_pipe_are_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 300
    output.print_table(
        ["name", "count", "rate"], [[long, 3, 0.123456789], [None, None, None]], title="[b]T\x1b[/b]"
    )
    text = capsys.readouterr().out
    assert long in text
    assert "0.123457" in text
    assert "[b]T\\x1b" in text  # neither mark-up nor escape sequences
    assert "\x1b" not in text


def test_numbers_stand_to_the_right(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(["KVP", "FilterType"], [[70, "FLAT"], [120, "WEDGE"]])
    lines = capsys.readouterr().out.splitlines()
    assert any(" 70 │ FLAT " in line.replace("|", "│") for line in lines), lines


def test_json_has_no_nan_and_no_types_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    import numpy as np

    output.print_json(
        {
            "a": float("nan"),
            "b": [np.float64("inf"), np.int64(3), np.arange(2)],
            "c": Path("x/y"),
            "d": {"z", "y"},
            "e": errors.InputError("w").as_json(),
            "f": "Schädel \udcff",
            "g": (1, None, True),
        }
    )
    text = capsys.readouterr().out
    assert text.isascii()
    assert json.loads(text) == {
        "a": None,
        "b": [None, 3, [0, 1]],
        "c": "x/y",
        "d": ["y", "z"],
        "e": {"error": "InputError", "what": "w", "where": "", "todo": ""},
        "f": "Schädel \udcff",
        "g": [1, None, True],
    }


def test_json_refuses_what_has_no_form() -> None:
    with pytest.raises(TypeError, match="object has no JSON form"):
        output.print_json(object())


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_shows_on_a_terminal_only(a_command: Hang, monkeypatch: pytest.MonkeyPatch) -> None:
    def work() -> None:
        with output.progress("reading [b]files", total=2) as step:
            step()
            with output.progress("inner", total=None) as inner:
                inner(description="inner\x1b again")
            step(1, "done")

    monkeypatch.setenv("TERM", "xterm")
    for interactive, wanted in ((True, True), (False, False)):
        stream: io.StringIO = _Terminal() if interactive else io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
        work()
        assert ("reading [b]files" in stream.getvalue()) is wanted


def test_quiet_silences_progress_and_remarks(a_command: Hang, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    def work() -> None:
        seen.append(output.quiet())
        output.note("a remark\x1b")

    run = a_command(work)
    assert run().stderr == "a remark\\x1b\n"
    assert run("--quiet").stderr == ""
    assert CliRunner().invoke(cli, ["--quiet", "probe"]).stderr == ""
    assert seen == [False, True, True]
