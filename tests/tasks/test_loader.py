from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from autocompress.errors import UserError
from autocompress.tasks import loader
from autocompress.tasks.loader import list_tasks, load_task, register_task
from autocompress.tasks.task import Task

SOURCE = """
import torch
from autocompress.tasks.task import Task
{extra}
class Root(torch.nn.Module):
    def forward(self, x):
        return x.sqrt()

def make({parameters}):
    {first}
    images = torch.ones(4, 3)
    return Task("mine", torch.nn.Linear(3, 2), images[:1], images, images)
"""


def write(path: Path, parameters: str = "", first: str = "", extra: str = "") -> Path:
    path.write_text(SOURCE.format(parameters=parameters, first=first, extra=extra), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def clean_imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in set(sys.modules) - before:
        if name.startswith(("autocompress_task_", "own_")):
            del sys.modules[name]


def test_the_built_in_tasks_are_listed_with_a_summary() -> None:
    tasks = list_tasks()
    assert list(tasks) == ["efficientnet-lite0", "fashion-mnist", "fashion-mnist-resnet"]
    assert all(summary and "\n" not in summary for summary in tasks.values())


def test_a_task_of_a_file(tmp_path: Path) -> None:
    task = load_task(f"{write(tmp_path / 'own_net.py')}:make")
    assert isinstance(task, Task) and task.name == "mine"
    assert not task.model.training


def test_a_file_imports_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "own_neighbour.py").write_text("WIDTH = 3\n", encoding="utf-8")
    path = write(tmp_path / "own_net.py", extra="from own_neighbour import WIDTH", first="assert WIDTH == 3")
    assert load_task(f"{path}:make").name == "mine"


def test_a_file_named_like_a_library_does_not_replace_it(tmp_path: Path) -> None:
    assert load_task(f"{write(tmp_path / 'torch.py')}:make").name == "mine"
    assert sys.modules["torch"] is torch


def test_a_module_of_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_package").mkdir()
    write(tmp_path / "own_package" / "net.py")
    monkeypatch.chdir(tmp_path)
    assert load_task("own_package.net:make").name == "mine"


def test_the_data_folder_reaches_the_function(tmp_path: Path) -> None:
    path = write(tmp_path / "own_net.py", parameters="data=None", first="assert data is None or data.name == 'photos'")
    (tmp_path / "photos").mkdir()
    assert load_task(f"{path}:make").name == "mine"
    assert load_task(f"{path}:make", data=tmp_path / "photos").name == "mine"
    with pytest.raises(UserError, match="there is no folder"):
        load_task(f"{path}:make", data=tmp_path / "nothing")


def test_a_data_folder_for_a_function_that_takes_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="takes no data folder"):
        load_task(f"{write(tmp_path / 'own_net.py')}:make", data=tmp_path)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("efficientnet-lite", "did you mean efficientnet-lite0.*The tasks are efficientnet-lite0, fashion-mnist"),
        ("xyz", "there is no task 'xyz': The tasks are"),
        ("net.py", "net.py:function"),
        (":make", "is not a task"),
        ("own_missing.net:make", "there is no module own_missing.net"),
        ("no/such/net.py:make", "there is no file"),
        ("json:dumps_all", "json has no function dumps_all: its functions are .*dumps"),
        ("json:JSONEncoder", "has no function JSONEncoder"),
        ("json:dumps", "needs the argument obj"),
    ],
)
def test_wrong_names(spec: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_task(spec)


def test_what_the_function_raises_is_named_with_its_line_and_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "own_net.py", first="torch.zeros(2).reshape(3)")
    line = path.read_text(encoding="utf-8").splitlines().index("    torch.zeros(2).reshape(3)") + 1
    with pytest.raises(UserError, match=rf"raised RuntimeError: shape.*own_net\.py, line {line}\)") as caught:
        load_task(f"{path}:make")
    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero .*own_net.py, line 4"),
        ("import own_missing", "ModuleNotFoundError: No module named 'own_missing' .*own_net.py, line 4"),
        ("def broken(:", "SyntaxError.*own_net.py, line 4"),
    ],
)
def test_a_file_or_module_that_cannot_be_imported(
    extra: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "own_net.py", extra=extra)
    monkeypatch.chdir(tmp_path)
    for spec in (f"{path}:make", "own_net:make"):
        with pytest.raises(UserError, match=message):
            load_task(spec)
    assert "autocompress_task_own_net" not in sys.modules


@pytest.mark.parametrize(
    ("first", "message"),
    [
        ("return 3", "task function make of .*own_net.py returned a int"),
        ("raise ModuleNotFoundError('no timm', name='timm')", "raised ModuleNotFoundError: no timm"),
        ("raise RuntimeError('operator torchvision::nms does not exist')", "not built for the torch here: install both"),
        (
            "x = torch.ones(4, 3); return Task('a', torch.nn.Linear(3, 2), x[:1], x[:, :2], x)",
            "task function make.*calibration has shape",
        ),
        ("x = -torch.ones(4, 3); return Task('a', Root(), x[:1], x, x)", "task function make.*returns NaN or infinity"),
    ],
)
def test_what_a_function_may_not_return(first: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        load_task(f"{write(tmp_path / 'own_net.py', first=first)}:make")


def test_a_user_error_of_the_function_is_passed_on(tmp_path: Path) -> None:
    path = write(tmp_path / "own_net.py", first="raise UserError('mine')", extra="from autocompress.errors import UserError")
    with pytest.raises(UserError, match=r"^mine$"):
        load_task(f"{path}:make")


def test_a_package_that_a_built_in_task_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.delenv("AUTOCOMPRESS_IMAGENET", raising=False)
    with pytest.raises(UserError, match=r"needs the package foolbox: install it with pip install 'autocompress\[demo\]'"):
        load_task("efficientnet-lite0")


def test_a_registered_name_is_not_taken_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "_REGISTRY", dict(loader._REGISTRY))

    def mine() -> Task:
        images = torch.ones(4, 3)
        return Task("mine", torch.nn.Linear(3, 2), images[:1], images, images)

    def other() -> Task:
        raise AssertionError

    register_task("mine", "a task of a test")(mine)
    assert load_task("mine").name == "mine"
    assert list_tasks()["mine"] == "a task of a test"
    with pytest.raises(UserError, match="registered already"):
        register_task("mine", "another")(other)
