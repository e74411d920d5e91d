"""Find a Task by name, or make one with the user's own function."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from ..errors import UserError
from .task import Task, check_task

#: Takes no arguments, or the optional keyword `data`: a folder of the user's.
TaskFunction = Callable[..., Task]


@dataclass(frozen=True)
class _Entry:
    summary: str
    function: TaskFunction


_REGISTRY: dict[str, _Entry] = {}

#: Modules of this folder that register tasks when imported.
_BUILT_IN = ("efficientnet_lite0", "fashion_mnist")


def register_task(name: str, summary: str) -> Callable[[TaskFunction], TaskFunction]:
    """Decorator: make a task function known to `load_task` and `list_tasks` under `name`.

    Raises:
        UserError: another function has that name.
    """

    def register(function: TaskFunction) -> TaskFunction:
        known = _REGISTRY.get(name)
        if known is not None and known.function is not function:
            raise UserError(f"a task named {name!r} is registered already: choose another name.")
        _REGISTRY[name] = _Entry(summary, function)
        return function

    return register


def list_tasks() -> dict[str, str]:
    """The registered tasks: name to one-line summary, in alphabetical order."""
    _import_built_in()
    return {name: _REGISTRY[name].summary for name in sorted(_REGISTRY)}


def load_task(spec: str, data: Path | None = None) -> Task:
    """The Task that `spec` names, checked.

    Args:
        spec: `NAME` of a registered task, `package.module:function` (the current folder is searched too, as by `python -m`),
            or `path/file.py:function`. The function takes no arguments, or the optional keyword `data`, and returns a Task.
        data: a folder with the user's own data, for tasks that take one.

    Raises:
        UserError: there is no such task, or it fails, or what it returns is not a usable Task.
    """
    if data is not None and not data.is_dir():
        raise UserError(f"there is no folder {data}: give the folder that holds the data.")
    location, separator, name = spec.rpartition(":")
    if not separator:
        function, label = _registered(spec), f"task {spec!r}"
    else:
        if not location or not name:
            raise UserError(f"{spec!r} is not a task: write package.module:function or path/file.py:function.")
        module = _import_file(Path(location)) if location.endswith(".py") else _import_module(location)
        function, label = _function_of(module, location, name), f"task function {name} of {location}"
    task = _call(function, label, data)
    if not isinstance(task, Task):
        raise UserError(f"{label} returned a {type(task).__name__}: return an autocompress.Task.")
    try:
        check_task(task)
    except UserError as error:
        raise UserError(f"{label}: {error}") from error
    return task


def _import_built_in() -> None:
    for module in _BUILT_IN:
        importlib.import_module(f".{module}", __package__)


def _registered(name: str) -> TaskFunction:
    known = list_tasks()
    if name in known:
        return _REGISTRY[name].function
    if name.endswith(".py"):
        raise UserError(f"{name} is a file: say which function of it makes the task, as {name}:function.")
    nearest = difflib.get_close_matches(name, known, n=1)
    meant = f"did you mean {nearest[0]}? " if nearest else ""
    raise UserError(
        f"there is no task {name!r}: {meant}The tasks are {', '.join(known)}; "
        "your own is package.module:function or path/file.py:function."
    )


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UserError(f"there is no file {path}: give the path of the Python file that holds the task function.")
    path = path.resolve()
    # A name of its own, so that a user's torch.py is not taken for torch by those who import torch later.
    name = f"autocompress_task_{path.stem}"
    specification = importlib.util.spec_from_file_location(name, path)
    if specification is None or specification.loader is None:
        raise UserError(f"{path} cannot be imported: give a Python source file.")
    module = importlib.util.module_from_spec(specification)
    _search_first(path.parent)
    sys.modules[name] = module
    try:
        specification.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise _failure(f"importing {path}", error, str(path)) from error
    return module


def _import_module(name: str) -> ModuleType:
    _search_first(Path.cwd())
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _failure(f"importing {name}", error, _source_of(name)) from error
        raise UserError(
            f"there is no module {name} (nothing named {error.name} in the installed packages or in {Path.cwd()}): "
            "check the spelling, or run from the folder that holds it."
        ) from error
    except Exception as error:
        raise _failure(f"importing {name}", error, _source_of(name)) from error


def _source_of(module: str) -> str:
    specification = importlib.util.find_spec(module)
    return "" if specification is None or specification.origin is None else specification.origin


def _search_first(folder: Path) -> None:
    """Let imports find modules in `folder`, as they do for `python -m` there and for `python folder/file.py`."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _function_of(module: ModuleType, location: str, name: str) -> TaskFunction:
    function = getattr(module, name, None)
    if isinstance(function, FunctionType):
        return function
    functions = [key for key, value in vars(module).items() if inspect.isfunction(value) and value.__module__ == module.__name__]
    offered = f"its functions are {', '.join(functions)}" if functions else "it defines no function"
    raise UserError(f"{location} has no function {name}: {offered}.")


def _call(function: TaskFunction, label: str, data: Path | None) -> Any:
    parameters = inspect.signature(function).parameters
    required = [
        parameter.name
        for parameter in parameters.values()
        if parameter.default is parameter.empty and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if required:
        raise UserError(
            f"{label} needs the argument {required[0]}: a task function takes no arguments, or the optional keyword data=None."
        )
    if data is not None and "data" not in parameters:
        raise UserError(f"{label} takes no data folder: leave the folder out, or give the function a keyword data=None.")
    try:
        return function() if data is None else function(data=data)
    except UserError:
        raise
    except ModuleNotFoundError as error:
        if function.__module__.partition(".")[0] != __name__.partition(".")[0]:
            raise _failure(label, error, inspect.unwrap(function).__code__.co_filename) from error
        raise UserError(f"{label} needs the package {error.name}: install it with pip install 'autocompress[demo]'.") from error
    except Exception as error:
        raise _failure(label, error, inspect.unwrap(function).__code__.co_filename) from error


def _failure(doing: str, error: Exception, file: str) -> UserError:
    """What the user's code raised, and on which line: the last one in `file`, or else where it was raised."""
    if isinstance(error, SyntaxError):
        place = f"{error.filename}, line {error.lineno}"
    else:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if frame.filename == file]
        last = (own or frames)[-1]
        place = f"{last.filename}, line {last.lineno}"
    remedy = "Correct it and run again."
    if isinstance(error, RuntimeError) and "operator torchvision::" in str(error):  # its compiled part could not be loaded
        remedy = (
            "The torchvision here was not built for the torch here: install both from one index, "
            "such as pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu."
        )
    return UserError(f"{doing} raised {type(error).__name__}: {error} ({place}). {remedy}")
