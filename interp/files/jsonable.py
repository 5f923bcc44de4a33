"""Values as JSON holds them."""

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any


def jsonable(value: Any, digits: int | None = None) -> Any:
    """Plain Python values: null for what is no finite number, rows of a data frame as objects, words for the rest.

    Args:
        digits: significant digits that a fraction keeps; all of them if left out.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return float(value) if digits is None else float(f"{value:.{digits}g}")
    if isinstance(value, Mapping):
        return {str(k): jsonable(v, digits) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(v, digits) for v in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: jsonable(getattr(value, f.name), digits) for f in fields(value)}
    if hasattr(value, "to_dict"):  # a data frame
        return jsonable(value.astype(object).where(value.notna(), None).to_dict("records"), digits)
    if hasattr(value, "tolist"):  # a number or an array of numpy
        return jsonable(value.tolist(), digits)
    return str(value)
