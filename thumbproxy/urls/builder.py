"""URLs for templates and views: pure computation, no I/O."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from html import escape
from inspect import signature
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, Unpack, overload

from thumbproxy.core.errors import BadOptions, BadSource
from thumbproxy.core.limits import Limits
from thumbproxy.core.suggest import unknown
from thumbproxy.urls.codec import AUTO, DEFAULT_PREFIX, UrlCodec
from thumbproxy.urls.options import OPTIONS, OptionKeywords, Options, unknown_field
from thumbproxy.urls.signing import Signer, keys_of

Preset = OptionKeywords | Mapping[str, Any] | str


class Named(Protocol):
    """A file that is known by its name in a storage, as Django's `photo.image`."""

    @property
    def name(self) -> str | None: ...


Source = str | os.PathLike[str] | Named
# Templates have lists as text: widths="320,640".
Widths = Iterable[int | str] | int | str

_KINDS = {option.field: option.kind for option in OPTIONS.values()}
_P = ParamSpec("_P")
_R_co = TypeVar("_R_co", covariant=True)


class Html(str):
    """Text that is HTML already: Jinja, Django and others put it into a page as it is."""

    __slots__ = ()

    def __html__(self) -> str:
        return self


class _Function(Generic[_P, _R_co]):
    """Makes of a method what is a plain function on an instance.

    Whoever registers a function looks at its parameters, and those of a bound method begin with
    `self`: Django's `simple_tag(thumbs.url)` would want a value for it in each template, because
    it asks `inspect.getfullargspec`.
    """

    def __init__(self, method: Callable[Concatenate[Any, _P], _R_co]) -> None:
        self._method = method
        told = signature(method)
        self._signature = told.replace(parameters=list(told.parameters.values())[1:])

    @overload
    def __get__(self, instance: None, owner: type) -> Callable[Concatenate[Any, _P], _R_co]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> Callable[_P, _R_co]: ...
    def __get__(self, instance: object, owner: type) -> Callable[..., _R_co]:
        method = self._method
        if instance is None:
            return method

        def function(*args: _P.args, **kwargs: _P.kwargs) -> _R_co:
            return method(instance, *args, **kwargs)

        # Not functools.wraps: its __wrapped__ leads back to `self`.
        function.__name__, function.__doc__ = method.__name__, method.__doc__
        function.__signature__ = self._signature  # type: ignore[attr-defined]
        return function


class Thumbnails:
    """Builds signed thumbnail URLs.

    keys      as in Signer, newest first; without any, those of the environment's THUMBPROXY_KEYS
    prefix    where thumbproxy is mounted, SCRIPT_NAME included
    base_url  what comes before the prefix: "https://cdn.example.com", or nothing
    presets   name -> options, as a mapping of keywords (`format` among them) or as URL text
    limits    the servers' bounds of what may be asked for

    A source is the path of a picture below its origin: text, a relative path, or a file with the
    `name` of one, as Django's `photo.image`. `url`, `srcset` and `picture` can be registered as
    tags of templates as they are, and take numbers as text too: width="400".
    Raises ValueError for keys that a Signer refuses, and BadOptions for a preset.

    Example:

        from thumbproxy import Thumbnails

        thumbs = Thumbnails(keys=["your signing key"], presets={"card": "w_400,h_300,fit_cover"})
        url = thumbs.url("photos/cat.jpg", width=400, format="webp")
        html = thumbs.picture("photos/cat.jpg", "card", widths=[400, 800], alt="A cat")
    """

    def __init__(
        self,
        keys: Sequence[str] = (),
        *,
        prefix: str = DEFAULT_PREFIX,
        base_url: str = "",
        presets: Mapping[str, Preset] | None = None,
        limits: Limits = Limits(),  # noqa: B008 - a frozen value
    ) -> None:
        self._urls = UrlCodec(Signer(keys or keys_of(os.environ)), prefix=prefix, limits=limits)
        self._base = base_url.rstrip("/")
        self._presets = {name: _keywords(preset) for name, preset in (presets or {}).items()}
        for name in self._presets:  # a fault is found at start-up, not in a template
            self.url("any", name)

    @_Function
    def url(
        self, /, source: Source, preset: str | None = None, **options: Unpack[OptionKeywords]
    ) -> str:
        """The URL of one variant.

        options: the fields of `Options`, and `format`: jpg png webp avif gif json, or auto, which
        is the default. They override those of the preset.
        Raises BadSource, BadOptions (both ValueError).
        """
        wanted, format = self._wanted(preset, options)
        return self._signed(source, wanted, format)

    @_Function
    def srcset(
        self,
        /,
        source: Source,
        preset: str | None = None,
        *,
        widths: Widths,
        **options: Unpack[OptionKeywords],
    ) -> str:
        """The value of a `srcset` attribute with a candidate for each width, in px: a list, or
        text as "320,640".

        With a height, or a preset that has one, heights follow the ratio of the box.
        Raises BadSource, BadOptions.
        """
        wanted, format = self._wanted(preset, options)
        return self._candidates(source, wanted, format, _numbers(widths))

    @_Function
    def picture(
        self,
        /,
        source: Source,
        preset: str | None = None,
        *,
        widths: Widths,
        sizes: str = "100vw",
        alt: str | None = "",
        loading: str = "lazy",
        formats: Iterable[str] | str = ("avif", "webp"),
        **options: Unpack[OptionKeywords],
    ) -> Html:
        """A `<picture>` element with a `<source>` for each format, best first, and JPEG for the
        rest, as escaped HTML. `src` is the widest candidate.

        sizes  how wide the page shows it, as in the attribute: "(min-width: 40em) 50vw, 100vw"

        Raises BadSource, BadOptions.
        """
        wanted, _ = self._wanted(preset, options)
        sorted_widths = sorted(_numbers(widths))
        if not sorted_widths:
            raise BadOptions("picture: widths needs one width at least.")

        def candidates(format: str) -> str:
            return escape(self._candidates(source, wanted, format, sorted_widths))

        sizes, alt, loading = (escape(str(text)) for text in (sizes, alt or "", loading))
        sources = "".join(
            f'<source type="image/{format}" srcset="{candidates(format)}" sizes="{sizes}">'
            for format in _listed(formats)
        )
        jpeg = candidates("jpg")
        widest = jpeg.rpartition(", ")[2].rpartition(" ")[0]
        return Html(
            f'<picture>{sources}<img src="{widest}" srcset="{jpeg}" sizes="{sizes}"'
            f' alt="{alt}" loading="{loading}"></picture>'
        )

    def _wanted(self, preset: str | None, options: Mapping[str, Any]) -> tuple[Options, str]:
        """What a preset and the options beside it come to, and the format."""
        values = {**self._preset(preset), **options}
        format = values.pop("format", AUTO)
        return _options(values), format

    def _preset(self, name: str | None) -> Mapping[str, Any]:
        if name is None:
            return {}
        try:
            return self._presets[name]
        except KeyError:
            raise BadOptions(unknown("preset", name, self._presets)) from None

    def _signed(self, source: Source, options: Options, format: str) -> str:
        return self._base + self._urls.build(_name(source), options, format)

    def _candidates(self, source: Source, box: Options, format: str, widths: Iterable[int]) -> str:
        if box.height and not box.width:
            raise BadOptions("srcset: a height needs a width beside it, for the ratio of the box.")
        candidates = []
        for width in widths:
            height = box.height and max(1, round(width * box.height / (box.width or 1)))
            url = self._signed(source, replace(box, width=width, height=height), format)
            # A comma may not end a URL in srcset, nor spaces be in it; ours has neither.
            candidates.append(f"{url} {width}w")
        return ", ".join(candidates)


def _name(source: Source) -> str:
    if isinstance(source, str):
        return source
    name = os.fspath(source) if isinstance(source, os.PathLike) else getattr(source, "name", source)
    if not isinstance(name, str):
        raise BadSource(
            f"There is no source: {name!r} is neither a path like photos/cat.jpg nor a file "
            "with such a name."
        )
    return name


def _keywords(preset: Preset) -> dict[str, Any]:
    if not isinstance(preset, str):
        return dict(preset)
    options = Options.read(preset)
    return {name: getattr(options, name) for name in options.__slots__}


def _options(wanted: Mapping[str, Any]) -> Options:
    try:
        return Options(**{name: _value(name, given) for name, given in wanted.items()})
    except TypeError:
        wrong = next(name for name in wanted if name not in Options.__slots__)
        raise BadOptions(unknown_field(wrong)) from None


def _value(name: str, given: Any) -> Any:
    """What text stands for, as in a URL; anything else, and what is wrong, as it is given."""
    if given and isinstance(given, str) and name in _KINDS:
        with suppress(ValueError, TypeError):
            return _KINDS[name].read(given)
    return given


def _listed(given: Any) -> list[Any]:
    if isinstance(given, str):
        return given.replace(",", " ").split()
    return list(given) if isinstance(given, Iterable) else [given]


def _numbers(widths: Widths) -> list[int]:
    numbers = []
    for given in _listed(widths):
        width = _options({"width": given}).width
        if width is None:
            raise BadOptions('widths: None is not allowed; it takes [320, 640], or "320,640".')
        numbers.append(width)
    return numbers
