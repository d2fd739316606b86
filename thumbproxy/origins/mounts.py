"""Finds the origin of a source by its prefix."""

from __future__ import annotations

from collections.abc import Mapping

from thumbproxy.origins.base import Origin


class Mounts:
    """Origins by the prefix of the sources that they have; the longest prefix wins.

    mapping  prefix -> origin: "media/" (its closing slash may be left out) has the sources below
             the folder media, "" has all that no other prefix has.
    Raises ValueError for two prefixes that are the same folder, or one that no source can have.
    """

    __slots__ = ("_default", "_prefixed")

    def __init__(self, mapping: Mapping[str, Origin]) -> None:
        origins: dict[str, Origin] = {}
        for prefix, origin in mapping.items():
            folder = f"{prefix.removesuffix('/')}/" if prefix else ""
            if folder in origins:
                raise ValueError(f"two origins are mounted at {folder!r}")
            if folder.startswith("/") or "//" in folder:
                raise ValueError(f"{prefix!r} is no prefix of a source: write it like 'media/'")
            origins[folder] = origin
        self._default = origins.pop("", None)
        # The borders of segments are in the prefixes, so that startswith() is all it takes; and
        # the longest come first, so that the first that fits is the one.
        self._prefixed = tuple(sorted(origins.items(), key=lambda item: -len(item[0])))

    def resolve(self, source: str) -> tuple[Origin, str] | None:
        """The origin of a source and the path below its mount; None when no mount has it.

        Raises BadSource for what that origin refuses, before anything is looked up for it.
        """
        origin, path = self._default, source
        for prefix, candidate in self._prefixed:
            if source.startswith(prefix):
                origin, path = candidate, source[len(prefix) :]
                break
        if origin is None:
            return None
        origin.check(path)
        return origin, path
