"""The repository's own checkers bite: each rule is shown something bad, and something harmless that looks like it."""

import subprocess
from pathlib import Path

import pytest

import check_docs
import check_repository


def messages(name: str, text: str) -> str:
    return "\n".join(finding.message for finding in check_repository.check_text(name, text))


# The bad lines are put together here, so that this file itself holds none of them.
@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("index-url = https://" + "pypi" + ".org/simple", "registry's host"),
        ("https://files." + "pythonhosted" + ".org/packages/a", "registry's host"),
        ("see www." + "npmjs" + ".com/package/uplot", "registry's host"),
        ('"resolved"' + ': "somewhere"', "download address"),
        ("curl -O https://example.com/meadow-1.0" + ".tar.gz", "download address"),
        ("cd " + "/work" + "/main && make", "path of one machine"),
        ('data = "' + "/home" + '/ada/meadow"', "path of one machine"),
        ("-----BEGIN " + "RSA PRIVATE KEY-----", "private key"),
        ("key: AKIA" + "ABCDEFGHIJKLMNOP", "AWS"),
        ("token: ghp_" + "a1" * 18, "GitHub"),
        ("seed: SU" + "A2" * 28, "NATS"),
        ("cookie_secret = '" + "0f" * 20 + "'", "generated secret"),
    ],
)
def test_a_bad_line_is_found_in_any_file(line: str, complaint: str) -> None:
    assert complaint in messages("docs/page.md", f"fine\n{line}\n")


@pytest.mark.parametrize(
    "line",
    [
        "volumes: ['~/work/meadow:/data']",
        "https://example.com/home/page",
        'password = os.environ["MEADOW_PASSWORD"]',
        "https://github.com/mher/flower",
    ],
)
def test_a_harmless_line_is_left_alone(line: str) -> None:
    assert messages("deploy/compose.yml", line) == ""


def test_a_finding_names_file_and_line() -> None:
    (finding,) = check_repository.check_text("core/a.py", "x = 1\nimport pickle\n")
    assert str(finding).startswith("core/a.py:2: ")


@pytest.mark.parametrize(
    "source",
    [
        "eval(text)",
        "exec(text)",
        "builtins.eval(text)",
        "import pickle",
        "import os, pickle as p",
        "from pickle import loads",
        "from cloudpickle.fast import loads",
        "yaml.load(text)",
        "from yaml import unsafe_load",
    ],
)
def test_product_code_may_not_run_what_it_is_given(source: str) -> None:
    assert messages("services/api/meadow_api/bad.py", source) != ""
    assert messages("tests/unit/test_bad.py", source) == ""


def test_pickle_is_read_in_one_place_only_and_by_its_plain_name() -> None:
    assert messages("core/meadow/event_body.py", "import pickle") == ""
    assert messages("core/meadow/event_body.py", "import os, pickle") != ""
    assert messages("core/meadow/other.py", "import pickle") != ""


def test_words_in_texts_and_other_methods_do_no_harm() -> None:
    source = '"""Never eval(x) or exec(x)."""\naccept = ["json", "pickle"]\nconnection.exec(1)\nyaml.safe_load(x)\n'
    assert messages("core/meadow/good.py", source) == ""


def test_scripts_of_the_pages_may_not_evaluate_text() -> None:
    assert messages("services/web/meadow_web/static/a.js", "eval(frame.data)") != ""
    assert messages("services/web/meadow_web/static/a.js", "retrieval(frame.data)") == ""


@pytest.mark.parametrize(
    "name",
    [
        "services/web/meadow_web/static/vendor/uPlot.min.css",
        "services/web/node_modules/x/y.js",
        "deploy/tls.key",
        ".env",
    ],
)
def test_vendored_code_and_files_for_secrets_are_found_by_name(name: str) -> None:
    assert list(check_repository.check_name(name))


def test_a_dependency_that_is_not_pinned_is_found(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "m"\ndependencies = ["SQLAlchemy[asyncio]>=2", "lark"]\n'
        '[project.optional-dependencies]\ndev = ["typing_extensions"]\nall = ["m[dev]"]\n'
    )
    (tmp_path / "constraints.txt").write_text("sqlalchemy==2.1\ntyping-extensions==4 ; python_version < '4'\n")
    (finding,) = check_repository.check_constraints(tmp_path)
    assert "lark" in finding.message


def new_repository(root: Path) -> None:
    subprocess.run(["git", "init", "--quiet", str(root)], check=True)


def test_the_repository_check_ends_with_1_until_the_bad_file_is_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new_repository(tmp_path)
    bad = tmp_path / "core" / "bad.py"
    bad.parent.mkdir()
    bad.write_text("eval(input())\n")
    assert check_repository.main([str(tmp_path)]) == 1
    assert "core/bad.py:1: `eval()`" in capsys.readouterr().out
    bad.unlink()
    assert check_repository.main([str(tmp_path)]) == 0


def test_the_repository_check_sees_ignored_vendor_files_only_if_they_are_tracked(tmp_path: Path) -> None:
    new_repository(tmp_path)
    (tmp_path / ".gitignore").write_text("node_modules/\n")
    module = tmp_path / "node_modules" / "a.js"
    module.parent.mkdir()
    module.write_text("1\n")
    assert check_repository.main([str(tmp_path)]) == 0
    subprocess.run(["git", "add", "--force", "node_modules/a.js"], cwd=tmp_path, check=True)
    assert check_repository.main([str(tmp_path)]) == 1


def complaints(texts: dict[str, str]) -> list[str]:
    return [str(finding) for finding in check_docs.check(texts, texts)]


@pytest.mark.parametrize(
    "link",
    [
        "[x](gone.md)",
        "![x](gone.png)",
        "[x](other.md#gone)",
        "[x](#gone)",
        "[x](../../outside.md)",
        "[x][ref]\n\n[ref]: gone.md",
    ],
)
def test_a_link_to_nowhere_is_found(link: str) -> None:
    (complaint,) = complaints({"docs/a.md": f"# A\n\n{link}\n", "docs/other.md": "# Other\n"})
    assert complaint.startswith("docs/a.md:3: link to ")


@pytest.mark.parametrize(
    "link",
    [
        "[x](other.md)",
        "[x](../docs)",
        "[x](/docs/other.md)",
        "[x](other.md#the-meadowtoml-file)",
        "[x](other.md#again-1)",
        "[x](other.md#by-hand)",
        "[x](#a)",
        "[x](https://example.com/gone.md)",
        "[x](mailto:ada@example.com)",
        "`[x](gone.md)`",
        "```\n[x](gone.md)\n```",
    ],
)
def test_a_link_that_leads_somewhere_is_left_alone(link: str) -> None:
    other = '# The `meadow.toml` file\n\n## Again\n\n## Again\n\n<a id="by-hand"></a>\n'
    assert complaints({"docs/a.md": f"# A\n\n{link}\n", "docs/other.md": other}) == []


def test_a_service_without_a_readme_is_found() -> None:
    texts = {"services/api/README.md": "# api\n", "services/web/meadow_web/service.py": ""}
    assert complaints(texts) == [
        "services/web/README.md:1: missing; say what the room hears, says, needs, and its settings"
    ]


def test_a_setting_that_the_reference_does_not_mention_is_found() -> None:
    fields = ["nats_url: str", "port: int", "store: str", "kinds: ClassVar[int]", "_hidden: int"]
    source = "\n    ".join(["class Settings:", *fields])
    page = "Say `--nats-url`, or set `MEADOW_PORT`. The storehouse is another matter.\n"
    (complaint,) = complaints({check_docs.SETTINGS: source, check_docs.SETTINGS_PAGE: page})
    assert complaint.startswith("core/meadow/settings.py:4: the setting `store`")
