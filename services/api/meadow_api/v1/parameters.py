"""Reads the parameters of a request into a Struct, and refuses everything that is not plainly what it says.

A Struct of parameters has fields of these types only, each perhaps `| None`: str, int, float, bool, an enumeration
(`Literal`), and lists of enumerations, which are written with commas.
"""

import re
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec
from aiohttp import web
from msgspec import Meta, Struct, inspect

from meadow.problems import Problem

P = TypeVar("P", bound=Struct)

Word = Annotated[str, Meta(max_length=1000)]
"""A name or an id. None that Meadow knows is longer."""

Cursor = Annotated[str, Meta(max_length=4096)]

INTEGER = re.compile(r"-?[0-9]{1,18}")
NUMBER = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?([eE][-+]?[0-9]{1,3})?")
FAULTS = (
    (re.compile(r"^Expected `(?:int|float)` <= (\S+)$"), r"it may be at most \1"),
    (re.compile(r"^Expected `(?:int|float)` >= (\S+)$"), r"it has to be at least \1"),
    (re.compile(r"^Expected `str` of length <= (\d+)$"), r"it may have at most \1 characters"),
    (re.compile(r"^Invalid enum value (.{0,100}).*$", re.DOTALL), r"\1 is not one of those that can be chosen"),
)
TRUTH = {"true": True, "false": False}
MOST_PARAMETERS = 50


class Refused(Exception):
    """A request that is answered by a problem and a status."""

    def __init__(self, status: int, problem: Problem) -> None:
        super().__init__(problem.message)
        self.status = status
        self.problem = problem


def refused(message: str, hint: str = "", *, status: int = 400, error: str = "invalid-parameter") -> Refused:
    """To be raised: the request is at fault."""
    return Refused(status, Problem(error=error, message=message, hint=hint))


def read_parameters(request: web.Request, type_: type[P]) -> P:
    """The request's parameters, those of the path included; raises `Refused`."""
    given = {**_query(request.rel_url.raw_query_string), **_of_path(request)}
    fields = _fields(type_)
    unknown = sorted(set(given) - set(fields))
    if unknown:
        raise refused(f"There is no parameter {unknown[0][:50]!r} here.", _known(fields))
    values = {name: _converted(name, text, fields[name].type) for name, text in given.items()}
    try:
        return msgspec.convert(values, type_)
    except msgspec.ValidationError as exc:
        raise refused(_readable(str(exc)), _known(fields)) from exc


def _query(raw: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(raw, keep_blank_values=True, errors="strict", max_num_fields=MOST_PARAMETERS)
    except UnicodeError as exc:
        raise refused("The query is not UTF-8.", "Percent-encode every byte of the UTF-8 text.") from exc
    except ValueError as exc:
        raise refused(f"The query has more than {MOST_PARAMETERS} parameters.") from exc
    found: dict[str, str] = {}
    for name, text in pairs:
        if name in found:
            raise refused(f"The parameter {name[:50]!r} is given twice.", "Give it once.")
        _check_text(name, text)
        found[name] = text
    return found


def _of_path(request: web.Request) -> Mapping[str, str]:
    try:
        unquote_to_bytes(request.rel_url.raw_path).decode("utf-8")
    except UnicodeError as exc:
        raise refused("The path is not UTF-8.", "Percent-encode every byte of the UTF-8 text.") from exc
    for name, text in request.match_info.items():
        _check_text(name, text)
    return request.match_info


def _check_text(name: str, text: str) -> None:
    if "\0" in text or "\0" in name:
        raise refused(f"The parameter {name[:50]!r} holds a NUL character.", "Leave it out.")


def _converted(name: str, text: str, type_: inspect.Type) -> Any:
    match _plain(type_):
        case inspect.IntType():
            return int(_matching(name, text, INTEGER, "a whole number"))
        case inspect.FloatType():
            return float(_matching(name, text, NUMBER, "a number"))
        case inspect.BoolType():
            if text not in TRUTH:
                raise refused(
                    f"The parameter {name!r} is {text[:50]!r}, which is not a truth value.", "Use true or false."
                )
            return TRUTH[text]
        case inspect.ListType() | inspect.VarTupleType():
            return text.split(",")
    return text


def _plain(type_: inspect.Type) -> inspect.Type:
    """The type without its description and without `None`."""
    while True:
        match type_:
            case inspect.Metadata(type=inner):
                type_ = inner
            case inspect.UnionType(types=types):
                type_ = next(kind for kind in types if not isinstance(kind, inspect.NoneType))
            case _:
                return type_


def _matching(name: str, text: str, pattern: re.Pattern[str], what: str) -> str:
    if pattern.fullmatch(text) is None:
        raise refused(f"The parameter {name!r} is {text[:50]!r}, which is not {what}.", f"Give {what}.")
    return text


@cache
def _fields(type_: type[Struct]) -> Mapping[str, inspect.Field]:
    shape = inspect.type_info(type_)
    if not isinstance(shape, inspect.StructType):
        raise TypeError(f"{type_} is not a Struct")
    return {field.encode_name: field for field in shape.fields}


def _known(fields: Mapping[str, inspect.Field]) -> str:
    return f"Parameters are {', '.join(fields)}." if fields else "This takes no parameters."


def _readable(message: str) -> str:
    """`Expected `int` <= 500 - at `$.limit`` as a sentence that begins with the parameter."""
    fault, _, place = message.partition(" - at `$.")
    for pattern, sentence in FAULTS:
        fault = pattern.sub(sentence, fault)
    name = place.partition("[")[0].rstrip("`")
    return f"The parameter {name!r} is wrong: {fault}." if name else f"{fault}."
