"""Numbers and names as words: sensible digits, thousands separators, spans of layers."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path


def number(value: float) -> str:
    """Three significant digits or so: 0.051, 1.44, 32.6, 1,204."""
    size = abs(value)
    return f"{value:,.{0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3}f}"


def signed(value: float, digits: int = 3) -> str:
    """With its sign; what rounds to nothing has none."""
    return unsigned_zero(f"{value:+.{digits}f}")


def fixed(value: float, digits: int, *, sign: bool = False) -> str:
    """With so many digits behind the point; fewer where three others stand before it. As the pages' script does."""
    size = abs(value)
    if size >= 1e7:
        return f"{value:{'+' if sign else ''}.1e}"
    kept = min(digits, 0 if size >= 100 else 1 if size >= 10 else digits)
    return unsigned_zero(f"{value:{'+' if sign else ''}.{kept}f}")


def unsigned_zero(text: str) -> str:
    """A number as it is written, without the sign of a zero."""
    return text if any(c in "123456789" for c in text) else text.lstrip("+-")


def interval(value: float, low: float, high: float, digits: int) -> str:
    """A value with its interval."""
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def percent(value: float, low: float, high: float) -> str:
    """A share with its interval, in percent."""
    return f"{100 * value:.0f} % [{100 * low:.0f}, {100 * high:.0f}]"


def share(value: float) -> str:
    """A share in percent."""
    return f"{100 * value:.0f} %"


def counted(n: int, noun: str) -> str:
    """`1 text`, `1,204 texts`."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def span(first: int, last: int) -> str:
    """`3 to 7`, or `3`."""
    return f"{first}" if first == last else f"{first} to {last}"


def layer_list(layers: Sequence[int], n_layers: int) -> str:
    """`all 8 layers`, or `14 of 30 layers (3, 8, 13, 20 to 29)`."""
    if len(layers) == n_layers:
        return f"all {counted(n_layers, 'layer')}" if n_layers > 1 else "1 layer"
    starts = [k for i, k in enumerate(layers) if not i or k != layers[i - 1] + 1]
    ends = [a for a, b in pairwise([*layers, -2]) if b != a + 1]
    spans = [span(a, b) if b != a + 1 else f"{a}, {b}" for a, b in zip(starts, ends, strict=True)]
    return f"{len(layers)} of {n_layers} layers ({', '.join(spans)})"


def listed(parts: Sequence[str]) -> str:
    """One, two and three."""
    return " and ".join([*([", ".join(parts[:-1])] if len(parts) > 1 else []), *parts[-1:]])


def short_name(name: str) -> str:
    """A folder's own name; a name as it is."""
    return Path(name).name if name.startswith(("/", ".", "~")) or "\\" in name else name
