"""What makes two evaluations the same, in words that outlive a process.

Estimators, parameters and scorers are described by what they are made of: class names and values.
A description is plain JSON, so that it can be kept, compared, and read by people. Nothing is ever
made from one: it is no pickle.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import BuiltinMethodType, CodeType, MethodType, ModuleType
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray

from mscourse.errors import ParameterError

# What a path of a description leads to if there is nothing.
_ABSENT = "nothing"

# Where a description has the hash of what cannot be written out, and how much of it people see.
_HASHES = ("code", "hash", "sha256")
_HASH_SHOWN = 6

# Integers from here on are written in another way.
_LARGE = 2**1024

# A description longer than this is cut where people see it.
_MOST_SHOWN = 60


def described(value: Any) -> Any:
    """Describe a value by JSON that is the same in each process, and differs for other values.

    Classes and functions are known by their names; a function that has no name of its own, or that
    lives in a notebook, by its code too, and a method by what it is bound to as well. What is none
    of the usual things is known by a hash of its pickle.

    Raises
    ------
    ParameterError
        If there is no telling it from others.
    """
    try:
        return _described(value)
    except RecursionError as error:
        raise ParameterError(
            f"A journal cannot tell one {type(value).__name__} from others: it holds itself, or is "
            "nested very deeply. Use a value or a function that does not hold itself."
        ) from error


def _described(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, int) and not -_LARGE < value < _LARGE:
        return {"int": hex(value)}  # JSON would have it in decimals, which takes long or is refused
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, list):
        return [_described(each) for each in value]
    if isinstance(value, tuple):
        return {"tuple": [_described(each) for each in value]}
    if isinstance(value, dict):
        return {"dict": [[_described(key), _described(each)] for key, each in value.items()]}
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return {"array": value.dtype.str, "shape": value.shape, "sha256": _array_hash(value)}
    if isinstance(value, partial):
        return {"partial": _described([value.func, value.args, value.keywords])}
    if isinstance(value, type):
        return {"class": _name(value)}
    if callable(value) and hasattr(value, "__qualname__"):
        return _described_function(value)
    if hasattr(value, "get_params"):
        params = value.get_params(deep=False)
        return {
            "estimator": _name(type(value)),
            "params": {name: _described(params[name]) for name in sorted(params)},
        }
    return {"object": _name(type(value)), "hash": _pickle_hash(value)}


def described_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Describe the parameters of a candidate."""
    return {name: described(params[name]) for name in sorted(params)}


def described_scorer(scorer: Callable[..., Any]) -> Any:
    """Describe a scorer: scikit-learn's by the metric that they compute, others as functions."""
    several = getattr(scorer, "_scorers", None)
    if isinstance(several, Mapping):
        return {name: described_scorer(several[name]) for name in sorted(several)}
    if hasattr(scorer, "_score_func"):
        return {
            "metric": described(scorer._score_func),
            "sign": described(getattr(scorer, "_sign", 1)),
            "arguments": described(getattr(scorer, "_kwargs", {})),
            "response": described(getattr(scorer, "_response_method", None)),
        }
    if type(scorer).__name__ == "_PassthroughScorer":
        return "estimator.score"
    return described(scorer)


def key_of(description: Any) -> bytes:
    """Give 16 bytes that stand for a description."""
    text = json.dumps(description, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def differences(there: Any, here: Any, path: str = "") -> Iterator[str]:
    """Say in what two descriptions differ, a line for each part."""
    if isinstance(there, dict) and isinstance(here, dict):
        for name in dict.fromkeys([*there, *here]):
            yield from differences(
                there.get(name, _ABSENT),
                here.get(name, _ABSENT),
                f"{path}.{name}" if path else name,
            )
    elif there != here or type(there) is not type(here):
        yield f"{path} was {_shown(there)}, and is {_shown(here)}"


def _shown(description: Any) -> str:
    text = description if isinstance(description, str) else json.dumps(description)
    return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN - 4]} ..."


def _name(named: Any) -> str:
    return f"{named.__module__}.{named.__qualname__}"


def _described_function(function: Callable[..., Any]) -> dict[str, Any]:
    module = getattr(function, "__module__", None)  # a method of a builtin type has none
    name = f"{module}.{function.__qualname__}"
    code = getattr(function, "__code__", None)
    description = {"function": name}
    owner = getattr(function, "__self__", None)
    # A builtin function is "bound" to its module.
    if isinstance(function, MethodType | BuiltinMethodType) and not isinstance(owner, ModuleType):
        description["of"] = _described(owner)
    is_known_by_name = module not in (None, "__main__") and "<" not in function.__qualname__
    if is_known_by_name or code is None:
        return description
    held = [getattr(function, "__defaults__", None), list(_closure(function))]
    if keywords := getattr(function, "__kwdefaults__", None):
        held.append(keywords)
    digest = hashlib.sha256(repr((list(_code_parts(code)), _described(held))).encode())
    return description | {"code": digest.hexdigest()[:16]}


def _closure(function: Callable[..., Any]) -> Iterator[Any]:
    """Give what a function holds of the place where it was made, but for itself."""
    itself = getattr(function, "__func__", function)
    for cell in getattr(function, "__closure__", None) or ():
        try:
            held = cell.cell_contents
        except ValueError:  # nothing is in it yet
            continue
        if held is not itself:
            yield held


def _code_parts(code: CodeType) -> Iterator[Any]:
    """Give what a function does, without the place where it stands."""
    yield code.co_code
    yield code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield list(_code_parts(constant))
        elif isinstance(constant, frozenset):  # whose order differs between processes
            yield sorted(map(repr, constant))
        else:
            yield constant


def _array_hash(array: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def _pickle_hash(value: Any) -> str:
    try:
        found: str | None = joblib.hash(value)
    except Exception as error:
        raise ParameterError(
            f"A journal cannot tell {value!r} from other values ({error}). Use a number, a string, "
            "an array, an estimator or a function, or an object that can be pickled."
        ) from error
    return str(found)


def as_shown(description: Any, among: Sequence[Any] = ()) -> Any:
    """Give what a description stands for, about as people would write it.

    Parameters
    ----------
    description : object
        From a journal, so that it may be anything that JSON can say.
    among : sequence of object
        Descriptions that it should be told from: by the parameters in which an estimator differs
        from others of its class, or by the first letters of a hash.
    """
    match description:
        case {"tuple": [*values]}:
            among = [each["tuple"] for each in among if _has(each, "tuple", list)]
            return tuple(_all_shown(values, among))
        case [*values]:
            return list(_all_shown(values, [each for each in among if isinstance(each, list)]))
        case {"estimator": str(name), "params": dict(params)}:
            alike = [each for each in among if _has(each, "params", dict)]
            others = [each["params"] for each in alike if each.get("estimator") == name]
            return _last_name(name) + _shown_params(params, others)
        case {"estimator": str(name)} | {"class": str(name)}:
            return _last_name(name)
        case {"object": str(name)} | {"function": str(name)}:
            return _last_name(name) + _shown_hash(description, among)
        case {"float": str(text)} | {"int": str(text)}:
            return text
        case {"array": str(dtype)}:
            return f"array of {dtype}" + _shown_hash(description, among)
    return description


def _has(description: Any, key: str, kind: type) -> bool:
    return isinstance(description, dict) and isinstance(description.get(key), kind)


def _last_name(name: str) -> str:
    return name.rpartition(".")[2]


def _all_shown(values: Sequence[Any], among: Sequence[Sequence[Any]]) -> Iterator[Any]:
    for i, value in enumerate(values):
        yield as_shown(value, [each[i] for each in among if i < len(each)])


def _shown_params(params: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> str:
    """Name the parameters in which an estimator differs from others of its class."""
    said = []
    for name, value in params.items():
        theirs = [each[name] for each in others if name in each]
        if any(each != value for each in theirs):
            said.append(f"{name}={as_shown(value, theirs)}")
    return f"({', '.join(said)})" if said else ""


def _shown_hash(description: Mapping[str, Any], among: Sequence[Any]) -> str:
    """Give the first letters of a hash, if something else has the same name."""
    kind, name = next(iter(description.items()))
    namesakes = [each for each in among if _has(each, kind, str) and each[kind] == name]
    digest = next((description[key] for key in _HASHES if key in description), "")
    if not digest or all(each == description for each in namesakes):
        return ""
    return f" {str(digest)[:_HASH_SHOWN]}"
