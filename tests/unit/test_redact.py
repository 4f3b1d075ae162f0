"""Secrets are hidden, their neighbours are not, and no text, however hostile, takes more than linear time."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meadow.redact import HIDDEN, MASK, Redactor, broker_without_passwords

redactor = Redactor()

CASES = [
    # reprs of keyword arguments
    ("{'user': 'ada', 'password': 'hunter2', 'n': 1}", "{'user': 'ada', 'password': '***', 'n': 1}"),
    ('{"user": "ada", "password": "hunter2", "n": 1}', '{"user": "ada", "password": "***", "n": 1}'),
    ("{'a': {'db': {'passwd': 'x y', 'host': 'h'}}, 'b': 2}", "{'a': {'db': {'passwd': '***', 'host': 'h'}}, 'b': 2}"),
    (
        "{'API_KEY': 'k', 'x-api-key': 'k2', 'apiKey': 'k3', 'z': 0}",
        "{'API_KEY': '***', 'x-api-key': '***', 'apiKey': '***', 'z': 0}",
    ),
    ("{'access_token_v2': b'abc', 'k': 1}", "{'access_token_v2': b'***', 'k': 1}"),
    ("{'secret': None, 'token': 12345, 'n': 3}", "{'secret': ***, 'token': ***, 'n': 3}"),
    ("{'secret': ['a', 'b]'], 'n': 3}", "{'secret': ***, 'n': 3}"),
    ("{'secrets': {'a': {'b': '}'}}, 'n': 3}", "{'secrets': ***, 'n': 3}"),
    ("{'token': datetime.datetime(2020, 1, 1), 'n': 3}", "{'token': ***, 'n': 3}"),
    ("{'token': <Token: a, b>, 'n': 3}", "{'token': ***, 'n': 3}"),
    (r"{'password': 'it\'s', 'n': 1}", "{'password': '***', 'n': 1}"),
    (r"{'password': 'ends in \\', 'n': 1}", "{'password': '***', 'n': 1}"),
    ("{'password': \"it's\", 'n': 1}", "{'password': \"***\", 'n': 1}"),
    ("{'password': '', 'n': 1}", "{'password': '***', 'n': 1}"),
    # JSON inside a repr, and that inside another
    ('(\'{"password": "x", "n": 1}\', 2)', '(\'{"password": "***", "n": 1}\', 2)'),
    (r'"{\"password\": \"a\\\"b\", \"n\": 1}"', r'"{\"password\": \"***\", \"n\": 1}"'),
    (r"('{\"secret\": \"it\'s\"}', 'kept')", r"('{\"secret\": \"***\"}', 'kept')"),
    # cut by Celery in the middle
    ("{'user': 'ada', 'password': 'hunt...", "{'user': 'ada', 'password': '***"),
    ("{'user': 'ada', 'password': {'a': 'hunt...", "{'user': 'ada', 'password': ***"),
    # plain text
    ("login failed: password=hunter2 for ada", "login failed: password=*** for ada"),
    ("GET /a?user=ada&token=abc&page=2 HTTP/1.1", "GET /a?user=ada&token=***&page=2 HTTP/1.1"),
    ("Authorization: Bearer abc.def, Accept: x", "Authorization: ***, Accept: x"),
    ("{'Authorization': 'Basic dXNlcjpw', 'Accept': 'x'}", "{'Authorization': '***', 'Accept': 'x'}"),
    ("connect(password = 'x', host='h')", "connect(password = '***', host='h')"),
    ("os.environ['API_KEY'] = 'x'", "os.environ['API_KEY'] = '***'"),
    # URLs
    ("redis://:hunter2@cache:6379/0", "redis://***@cache:6379/0"),
    ("'amqp://ada:p@ss@h//', 'me@example.com'", "'amqp://***@h//', 'me@example.com'"),
    ('["http://host","me@example.com"]', '["http://host","me@example.com"]'),
    ('"redis://:it\'s@h"', '"redis://***@h"'),
    ("https://ghp_token123@github.com/x", "https://***@github.com/x"),
    ("redis://h1;redis://:a@h2;redis://:b@h3", "redis://h1;redis://***@h2;redis://***@h3"),
    ("'redis://ada:hunt...'", "'redis://***'"),
    ("redis://ada:hunt", "redis://***"),
]


@pytest.mark.parametrize(("text", "shown"), CASES)
def test_a_secret_is_hidden_and_its_neighbours_stay(text: str, shown: str) -> None:
    assert redactor.text(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "(1, 2, 'three')",
        "{'client': 42, 'path': '/a/b'}",
        "see http://example.com/a@b and http://localhost:5555.",
        "http://token-service:8080/health",
        "http://[::1]:8080/",
        "KeyError: 'password'",
        "jwt.exceptions.InvalidTokenError: Not enough segments",
        "the secret of success",
        "",
    ],
)
def test_what_holds_no_secret_is_left_alone(text: str) -> None:
    assert redactor.text(text) == text


def test_names_from_the_settings_are_hidden_too() -> None:
    assert Redactor(["IBAN"]).text("{'iban_to': 'DE00', 'sum': 3}") == "{'iban_to': '***', 'sum': 3}"
    assert redactor.text("{'iban_to': 'DE00'}") == "{'iban_to': 'DE00'}"


def test_fields_are_hidden_by_key_at_any_depth() -> None:
    fields = {"a": [{"Password": {"deep": 1}, "n": 1}], "url": "redis://:x@h/0", "token_count": 3}
    assert redactor.value(fields) == {"a": [{"Password": MASK, "n": 1}], "url": "redis://***@h/0", "token_count": MASK}


def test_a_rule_that_raises_hides_the_whole_text(caplog: pytest.LogCaptureFixture) -> None:
    def broken(text: str) -> str:
        raise RuntimeError("no")

    mine = Redactor(more_rules=[broken])
    assert mine.text("harmless") == HIDDEN
    assert mine.text("again") == HIDDEN
    assert mine.failures == 2
    assert [record.message for record in caplog.records].count(caplog.records[0].message) == 1


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("redis://:hunter2@h:6379/0", "redis://:***@h:6379/0"),
        ("amqp://ada:hunter2@h//", "amqp://ada:***@h//"),
        ("sentinel://:a@h1:1;sentinel://:b@h2:2", "sentinel://:***@h1:1;sentinel://:***@h2:2"),
        ("redis://:se;cret@h", "redis://:***@h"),
        ("redis://:se/cret@h", "redis://:***@h"),
        ("ada:hunter2@h", "h"),
        ("rediss://h/0?password=hunter2&ssl_cert_reqs=none", "rediss://h/0?password=***&ssl_cert_reqs=none"),
        ("redis://token-cache:6379/0", "redis://token-cache:6379/0"),
    ],
)
def test_the_brokers_url_is_shown_without_any_password(url: str, shown: str) -> None:
    assert broker_without_passwords(url) == shown


HOSTILE = st.lists(
    st.sampled_from(
        ["password", "token", "'", '"', "\\", ":", "=", " ", "://", "@", "(", "[", "{", "<", ">", ")", "]", "}", "x",
         "...", ",", "Bearer ", "\n", "\u00e9", "api_key"]
    ),
    max_size=80,
).map("".join)  # fmt: skip


@given(HOSTILE)
def test_no_text_breaks_a_rule(text: str) -> None:
    mine = Redactor()
    mine.text(text)
    assert mine.failures == 0


@given(st.text(alphabet=st.characters(blacklist_categories=["Cs"]), max_size=30), st.booleans())
def test_the_value_of_a_password_never_shows(secret: str, json_style: bool) -> None:
    marked = f"<<{secret}>>"
    text = (
        repr({"a": 1, "password": marked, "b": [2]}) if not json_style else f"{{'x': {repr({'password': marked})!r}}}"
    )
    shown = redactor.text(text)
    assert "<<" not in shown
    assert json_style or (shown.startswith("{'a': 1, ") and shown.endswith(", 'b': [2]}"))


@pytest.mark.parametrize(
    "piece",
    ["password", "password=", "password='", "password=\\'", "token=(", "token=<", "a://", "://:", "://x@", "'", "\\",
     "secret : ", "secret" + " " * 50, "api_key['", "a" * 30 + "://", "authorization=bearer "],
)  # fmt: skip
def test_time_grows_with_the_length_and_no_faster(piece: str) -> None:
    def seconds(length: int) -> float:
        text = (piece * (length // len(piece))) + "password"
        best = 1e9
        for _ in range(3):
            start = time.thread_time()
            redactor.text(text)
            best = min(best, time.thread_time() - start)
        return best

    assert seconds(160_000) < 24 * seconds(20_000) + 0.02  # 8 times as long; squared would be 64 times
