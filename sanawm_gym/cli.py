"""The command line `sanawm-gym`.

One table of commands. A command's back end is imported only once it has been chosen, so that
`sanawm-gym --help` answers at once although the back ends import torch. Options come from the
command's own config dataclass through tyro; this file holds no option of its own.

What a user got wrong ends in one line on stderr and exit status 2; a traceback means a bug of ours.
"""

import contextlib
import dataclasses
import importlib
import inspect
import io
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args, get_type_hints

import tyro

import sanawm_gym

PROG = "sanawm-gym"
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
_PACKAGE = Path(__file__).parent

# Packages that only an extra brings; any other missing module is a bug and keeps its traceback.
_EXTRA_OF_PACKAGE = {
    "highway_env": "reference",
    "cv2": "reference",
    "diffusers": "full",
    "transformers": "full",
    "yaml": "full",
    "openvino": "fast",
    "sb3_contrib": "contrib",
    "torchao": "fp4",
    "ray": "ray",
    "viser": "viz",
    "pygame": "viz",
}


@dataclass(frozen=True, kw_only=True)
class Command:
    """One command: what it is called for, and where its config and its function live."""

    summary: str
    """One line for `--help`."""
    module: str
    """Module that holds the back end, imported when the command is chosen."""
    config: str = ""
    """Name of the config dataclass in that module; unused when `stages` is named."""
    function: str = ""
    """Name of the function that takes the config; unused when `stages` is named."""
    stages: str = ""
    """Name of a dict there, from the next word of the command line to (config class, function)."""
    noun: str = "stage"
    """What that next word names."""


COMMANDS = {
    "drive": Command(
        summary="drive a policy through a generated world and write the video",
        module="sanawm_gym.drive",
        config="DriveJob",
        function="drive",
    ),
    "render": Command(
        summary="render a video along a camera path (poses, keys, waypoints) from one picture",
        module="sanawm_gym.render.job",
        config="RenderJob",
        function="render",
    ),
    "record": Command(
        summary="record driving episodes with exact poses in the reference simulator",
        module="sanawm_gym.envs.reference.record",
        config="RecordConfig",
        function="record",
    ),
    "ingest": Command(
        summary="convert your own drives (KITTI, comma2k19, mp4 with poses) into recordings",
        module="sanawm_gym.ingest.job",
        config="IngestConfig",
        function="ingest",
    ),
    "convert": Command(
        summary="convert released SANA-WM weights (any layout, pickles too) into safetensors",
        module="sanawm_gym.worldmodel.official.convert",
        config="ConvertJob",
        function="convert",
    ),
    "train-wm": Command(
        summary="train a stage of the world model on recorded episodes",
        module="sanawm_gym.train_wm.stages",
        stages="STAGES",
    ),
    "train-agent": Command(
        summary="train a driver in a generated world or in the reference simulator",
        module="sanawm_gym.agents.algorithms",
        stages="ALGORITHMS",
        noun="algorithm",
    ),
    "validate": Command(
        summary="compare a generated world with the reference simulator and write a report",
        module="sanawm_gym.validate.job",
        config="ValidateJob",
        function="validate",
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The words after the program's name; those of the process when not given.

    Returns:
        The exit status: 0 done, 2 bad input, 130 interrupted.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(_overview(), end="")
        return 0 if words else EXIT_BAD_INPUT
    if words[0] == "--version":
        print(sanawm_gym.__version__)
        return 0
    name, rest = words[0], words[1:]
    try:
        with _plain_warnings(name):
            _run(name, rest)
    except KeyboardInterrupt:
        print(f"{PROG} {name}: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except (ValueError, OSError) as error:
        return _refuse(name, str(error))
    except ModuleNotFoundError as error:
        extra = _EXTRA_OF_PACKAGE.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        return _refuse(name, f'{error.name} is missing: pip install "sanawm-gym[{extra}]"')
    return 0


def _run(name: str, words: list[str]) -> None:
    """Import the back end of a command, parse its config from `words` and call it."""
    if name not in COMMANDS:
        raise ValueError(f"no such command; expected one of {', '.join(COMMANDS)}")
    command = COMMANDS[name]
    module = importlib.import_module(command.module)
    if command.stages:
        _run_stage(name, command.noun, getattr(module, command.stages), words)
        return
    _call(
        getattr(module, command.config),
        getattr(module, command.function),
        prog=f"{PROG} {name}",
        words=words,
    )


def _run_stage(
    name: str,
    noun: str,
    stages: dict[str, tuple[type[Any], Callable[[Any], object]]],
    words: list[str],
) -> None:
    if not words or words[0] in ("-h", "--help"):
        title = f"{noun}s, in the order of training:" if noun == "stage" else f"{noun}s:"
        lines = [f"usage: {PROG} {name} {noun.upper()} [options]", "", title]
        lines += [f"  {stage:<14} {_first_line(config)}" for stage, (config, _) in stages.items()]
        lines += ["", f"`{PROG} {name} {noun.upper()} --help` lists its options."]
        print("\n".join(lines))
        if not words:
            raise ValueError(f"no {noun} given; expected one of {', '.join(stages)}")
        return
    stage, rest = words[0], words[1:]
    if stage not in stages:
        raise ValueError(f"no {noun} {stage!r}; expected one of {', '.join(stages)}")
    config, function = stages[stage]
    _call(config, function, prog=f"{PROG} {name} {stage}", words=rest)


def _call(
    config: type[Any], function: Callable[[Any], object], *, prog: str, words: list[str]
) -> None:
    function(_parse(config, prog=prog, words=words))


def _parse(config: type[Any], *, prog: str, words: list[str]) -> Any:
    """Parse a config; what tyro would frame in a box becomes the one line of a ValueError."""
    said = io.StringIO()
    if {"-h", "--help"} & set(words):
        _unwrap_help(config)
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(config, prog=prog, args=words, description=_description(config))
    except SystemExit as end:
        if not end.code:  # --help
            raise
        complaint = _complaint(said.getvalue()).removeprefix(f"Error parsing {config.__name__}: ")
        raise ValueError(f"{complaint} (options: {prog} --help)") from None


def _unwrap_help(config: type[Any]) -> None:
    """Make one line of every option's docstring: tyro would break it where the source does."""
    from docstring_parser import parse_from_object

    said = {
        text.arg_name: " ".join((text.description or "").split())
        for part in reversed(config.__mro__[:-1])
        for text in parse_from_object(part).params
    }
    for field in dataclasses.fields(config):
        if said.get(field.name):
            field.metadata = MappingProxyType({**field.metadata, "help": said[field.name]})
    for hint in get_type_hints(config).values():
        for inner in _configs_in(hint):
            _unwrap_help(inner)


def _configs_in(hint: Any) -> Iterator[type[Any]]:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        yield hint
    for part in get_args(hint):
        yield from _configs_in(part)


def _complaint(box: str) -> str:
    """What is wrong, out of a framed message: the lines between its title and its first rule."""
    lines = [line.strip("│ ") for line in box.splitlines()[1:]]
    first_rule = next((i for i, line in enumerate(lines) if set(line) <= set("─╰╯")), len(lines))
    return " ".join(lines[:first_rule])


def _overview() -> str:
    lines = [f"usage: {PROG} COMMAND [options]", "", (sanawm_gym.__doc__ or "").split("\n")[0], ""]
    lines += ["commands:"]
    lines += [f"  {name:<10} {command.summary}" for name, command in COMMANDS.items()]
    lines += [
        "",
        f"`{PROG} COMMAND --help` lists a command's options; `{PROG} --version` the version.",
        f"Begin with: {PROG} drive --out drive.mp4",
    ]
    return "\n".join(lines) + "\n"


def _description(config: type[Any]) -> str:
    """A config's docstring without its list of fields, which tyro prints as options."""
    return (inspect.getdoc(config) or "").partition("Attributes:")[0].strip()


def _first_line(config: type[Any]) -> str:
    return _description(config).split("\n")[0]


@contextlib.contextmanager
def _plain_warnings(name: str) -> Iterator[None]:
    """Say our own warnings in a line each, without a place in code that nobody has to look at."""
    before = warnings.formatwarning

    def said(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        line: Any = None,
    ) -> str:
        if issubclass(category, UserWarning) and Path(filename).is_relative_to(_PACKAGE):
            return f"{PROG} {name}: warning: {message}\n"
        return before(message, category, filename, lineno, line)

    warnings.formatwarning = said
    try:
        yield
    finally:
        warnings.formatwarning = before


def _refuse(name: str, reason: str) -> int:
    """Say in one line what was wrong with the input."""
    print(f"{PROG} {name}: {' '.join(reason.split())}", file=sys.stderr)
    return EXIT_BAD_INPUT


if __name__ == "__main__":
    sys.exit(main())
