"""Configs whose fields can be given by name, in constructors and in options of `reset`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

SettingsT = TypeVar("SettingsT", bound="Settings")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Base of an environment's config; all fields have defaults."""

    @classmethod
    def from_kwargs(
        cls: type[SettingsT],
        config: SettingsT | None = None,
        kwargs: Mapping[str, Any] | None = None,
    ) -> SettingsT:
        """A config from keyword arguments, on top of a given one.

        Raises:
            ValueError: If a key is no field, or a value is impossible.
        """
        if config is not None and not isinstance(config, cls):
            raise ValueError(
                f"config: got {config!r}, expected a config of type {cls.__name__}; pass single "
                "settings by name"
            )
        return (config or cls()).replace(kwargs or {})

    def replace(self: SettingsT, changes: Mapping[str, Any]) -> SettingsT:
        """This config with other values.

        Raises:
            ValueError: If a key is no field, or a value is impossible.
        """
        known = [field.name for field in dataclasses.fields(self)]
        unknown = sorted(set(changes) - set(known))
        if unknown:
            raise ValueError(
                f"options: got {unknown}, expected some of {known}; check the spelling"
            )
        return dataclasses.replace(self, **changes)
