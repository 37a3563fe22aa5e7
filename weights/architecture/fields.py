"""Reading fields of a model's config: typed, and with an error that names the field.

The config is JSON that somebody else wrote. A field that is missing, of the wrong type or of a kind that the
networks cannot run raises WeightsError with the field's full name; which file it stands in is known to the
caller, who may add it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from weights.errors import WeightsError


@dataclass(frozen=True)
class Fields:
    """One section of a config, e.g. `Fields.of(config, "transformer")`. Every reader takes an optional
    default."""

    name: str
    values: Mapping[str, Any]

    @staticmethod
    def of(config: Mapping[str, Any], section: str) -> Fields:
        values = config.get(section)
        if not isinstance(values, Mapping):
            raise WeightsError(f"The config has no section {section!r}.")
        return Fields(section, values)

    def within(self, key: str) -> Fields:
        """A section inside this one."""
        values = self._get(key, None)
        if not isinstance(values, Mapping):
            raise WeightsError(f"The config's {self.name}.{key} is {values!r}; it must be a section of its own.")
        return Fields(f"{self.name}.{key}", values)

    def integer(self, key: str, default: int | None = None) -> int:
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 1 or value % 1 != 0:
            raise WeightsError(f"The config's {self.name}.{key} is {value!r}; it must be a positive whole number.")
        return int(value)

    def number(self, key: str, default: float | None = None) -> float:
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise WeightsError(f"The config's {self.name}.{key} is {value!r}; it must be a positive number.")
        return float(value)

    def flag(self, key: str, default: bool | None = None) -> bool:
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise WeightsError(f"The config's {self.name}.{key} is {value!r}; it must be true or false.")
        return value

    def numbers(self, key: str, count: int, default: tuple[float, ...] | None = None) -> tuple[float, ...]:
        value = self._get(key, default)
        if (
            not isinstance(value, list | tuple)
            or len(value) != count
            or not all(isinstance(v, int | float) and not isinstance(v, bool) and v > 0 for v in value)
        ):
            raise WeightsError(f"The config's {self.name}.{key} is {value!r}; it must list {count} positive number(s).")
        return tuple(float(v) for v in value)

    def choice(self, key: str, allowed: tuple[str, ...], default: str | None = None) -> str:
        value = self._get(key, default)
        if value not in allowed:
            names = " or ".join(repr(name) for name in allowed)
            raise WeightsError(f"The config's {self.name}.{key} is {value!r}; this program runs only {names}.")
        return str(value)

    def require(self, expected: Mapping[str, Any]) -> None:
        """A field that is there must have the expected value; one that is absent is taken to have it."""
        for key, value in expected.items():
            if key in self.values and self.values[key] != value:
                actual = self.values[key]
                raise WeightsError(f"The config's {self.name}.{key} is {actual!r}; this program runs only {value!r}.")

    def _get(self, key: str, default: Any) -> Any:
        value = self.values.get(key, default)
        if value is None:
            raise WeightsError(f"The config lacks {self.name}.{key}.")
        return value
