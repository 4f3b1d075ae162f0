"""Tracebacks: the app's own frames stand out, the library's are folded, and nothing is left out."""

from hypothesis import given
from hypothesis import strategies as st

from meadow_web.tracebacks import parts

TRACEBACK = """Traceback (most recent call last):
  File "/srv/venv/lib/python3.11/site-packages/celery/app/trace.py", line 453, in trace_task
    R = retval = fun(*args, **kwargs)
                 ^^^^^^^^^^^^^^^^^^^^
  File "/srv/venv/lib/python3.11/site-packages/celery/app/trace.py", line 736, in __protected_call__
    return self.run(*args, **kwargs)
  File "/srv/shop/proj/mail.py", line 88, in deliver
    send(
        address_of(invoice))
  File "/usr/lib/python3.11/smtplib.py", line 12, in connect
    raise OSError
OSError: [Errno 111] Connection refused

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/srv/shop/proj/mail.py", line 90, in deliver
    raise Undeliverable
proj.Undeliverable
"""


def test_own_frames_and_library_frames_are_told_apart() -> None:
    found = parts(TRACEBACK)
    assert [(part.kind, len(part.frames)) for part in found] == [
        ("text", 0),
        ("library", 2),
        ("own", 1),
        ("library", 1),
        ("text", 0),
        ("own", 1),
        ("text", 0),
    ]
    own = found[2].frames[0]
    assert (own.path, own.line, own.function) == ("/srv/shop/proj/mail.py", "88", "deliver")
    assert own.code == "send(\n    address_of(invoice))"
    assert "During handling" in found[4].text


def test_a_text_that_is_no_traceback_stays_a_text() -> None:
    assert [(part.kind, part.text) for part in parts("boom\nbang")] == [("text", "boom\nbang")]
    assert parts("") == []


LINES = st.sampled_from(
    [
        '  File "/a/b.py", line 3, in f',
        '  File "x", line 9',
        "    code()",
        "text",
        "",
        "      ^^^^",
        ' File "<frozen x>", line 1, in y',
    ]
)


@given(st.lists(LINES, max_size=30))
def test_no_word_is_left_out(lines: list[str]) -> None:
    shown = ""
    for part in parts("\n".join(lines)):
        shown += part.text
        for frame in part.frames:
            shown += frame.path + frame.line + frame.function + frame.code
    for word in ("code()", "text", "^^^^"):
        assert shown.count(word) == sum(line.count(word) for line in lines)
    assert shown.count("/a/b.py") == lines.count('  File "/a/b.py", line 3, in f')
