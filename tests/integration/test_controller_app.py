"""Finding the user's Celery app, and what is said when that does not work."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from meadow.errors import StartRefused
from meadow.settings import Settings
from meadow_controller.celery_app import load

APP = """
from celery import Celery
app = Celery("shop", broker="redis://from-the-app:6379/0", backend="cache+memory://", set_as_current=False)

@app.task(name="shop.buy", shared=False)
def buy(): pass
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """A directory to put modules in; nothing of it stays in the interpreter."""
    path, modules = list(sys.path), set(sys.modules)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


def put(project: Path, name: str, text: str) -> Settings:
    (project / f"{name}.py").write_text(text, encoding="utf-8")
    return Settings(app=name, workdir=str(project))


def test_the_app_is_found_with_its_tasks_and_its_broker(project: Path) -> None:
    app = load(put(project, "shop_one", APP))
    assert "shop.buy" in app.tasks
    assert app.conf.broker_write_url == "redis://from-the-app:6379/0"


def test_tasks_in_other_modules_are_imported_too_as_a_worker_does(project: Path) -> None:
    put(project, "shop_parts", APP.replace('broker="', 'include=["shop_part"], broker="'))
    text = "from shop_parts import app\n@app.task(name='shop.part', shared=False)\ndef part(): pass\n"
    app = load(put(project, "shop_part", text) and Settings(app="shop_parts", workdir=str(project)))
    assert "shop.part" in app.tasks


def test_broker_and_backend_of_the_settings_come_first(project: Path) -> None:
    put(project, "shop_two", APP)
    settings = Settings(
        app="shop_two:app", workdir=str(project), broker="redis://other:1/2", result_backend="cache+memory://"
    )
    app = load(settings)
    assert (app.conf.broker_read_url, app.conf.broker_write_url) == ("redis://other:1/2", "redis://other:1/2")


def test_without_an_app_the_broker_comes_from_the_settings_or_the_environment(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://environment:1/0")
    assert load(Settings(workdir=str(project))).conf.broker_write_url == "redis://environment:1/0"
    settings = Settings(workdir=str(project), broker="redis://setting:1/0")
    assert load(settings).conf.broker_write_url == "redis://setting:1/0"


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("shop_missing", None, "cannot be loaded: No module named 'shop_missing'"),
        ("shop_raises", "1 / 0", "raised ZeroDivisionError: division by zero"),
        ("shop_without", "x = 1", "cannot be loaded"),
        ("shop_wrong", "app = 5", "is a int, not a Celery app"),
        (
            "shop_backend",
            "from celery import Celery\napp = Celery('s', backend='nosuch://', set_as_current=False)",
            "The result backend of the Celery app cannot be used: ModuleNotFoundError",
        ),
    ],
)
def test_an_app_that_cannot_be_used_is_explained(project: Path, name: str, text: str | None, sentence: str) -> None:
    settings = Settings(app=name, workdir=str(project)) if text is None else put(project, name, text)
    with pytest.raises(StartRefused, match=sentence):
        load(settings)
