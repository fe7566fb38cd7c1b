"""What was measured, and how Prometheus reads it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

#: How the names of what only grows end.
COUNTER = "_total"


@dataclass(frozen=True)
class Sample:
    """One number.

    Attributes:
        name: Name of the metric, with its unit at the end.
        value: The number; seconds since 1970, seconds, bytes, 0 or 1, or how many.
        labels: What it is of.
    """

    name: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


def number(value: float) -> str:
    """A number without what a float adds to a whole one."""
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def line(sample: Sample) -> str:
    """A sample as a line of the exposition format."""
    escaped = (
        (name, value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n"))
        for name, value in sorted(sample.labels.items())
    )
    labels = ",".join(f'{name}="{value}"' for name, value in escaped)
    return f"{sample.name}{{{labels}}} {number(sample.value)}" if labels else f"{sample.name} {number(sample.value)}"


def text(samples: Iterable[Sample]) -> str:
    """Samples as Prometheus reads them, those of one name together."""
    lines, last = [], None
    for sample in sorted(samples, key=lambda one: (one.name, sorted(one.labels.items()))):
        if sample.name != last:
            lines.append(f"# TYPE {sample.name} {'counter' if sample.name.endswith(COUNTER) else 'gauge'}")
            last = sample.name
        lines.append(line(sample))
    return "".join(f"{one}\n" for one in lines)


def write(path: Path, content: str, mode: int) -> None:
    """Replaces a file; whoever reads it finds the old one or the new one.

    Args:
        path: The file; its folder is there.
        content: What it is to hold.
        mode: Who may read it.
    """
    part = path.with_name(f".{path.name}.new")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(descriptor, mode)
        file.write(content)
    part.replace(path)
