"""Optional dependencies: a missing one is reported when it is used, with the extra to install.

    lacking = Lacking()
    with lacking:
        from thumbproxy.server.gunicorn_app import run  # which needs gunicorn

    def serve() -> None:
        lacking.check()
        run()

So everything can be imported, and nothing needs an extra that does not use it.
"""

from __future__ import annotations

from types import TracebackType

from thumbproxy.core.errors import SettingsError

# The name by which it is imported -> what people call it, and the extra that brings it.
_EXTRAS = {
    "PIL": ("Pillow", "pillow"),
    "gunicorn": ("gunicorn", "server"),
    "pylibmc": ("pylibmc", "memcached"),
    "_pylibmc": ("pylibmc", "memcached"),
    "prometheus_client": ("prometheus-client", "metrics"),
    "botocore": ("botocore", "cloudfront"),
    "rich": ("rich", "warm"),
}


class Lacking:
    """What its `with` blocks could not import because an extra is not installed.

    Any other failure of theirs goes its way.
    """

    def __init__(self) -> None:
        self._whys: list[str] = []
        self._extras: list[str] = []

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if not isinstance(error, ImportError):
            return False
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRAS:
            return False
        name, extra = _EXTRAS[package]
        absent = isinstance(error, ModuleNotFoundError)
        self._whys.append(
            f"{name} is not installed" if absent else f"{name} cannot be loaded ({error})"
        )
        self._extras.append(extra)
        return True

    @property
    def fault(self) -> str:
        """A sentence with one command for all of it; "" when nothing is lacking."""
        if not self._extras:
            return ""
        return f"{', '.join(self._whys)}; pip install 'thumbproxy[{','.join(self._extras)}]'"

    def check(self) -> None:
        """Raises SettingsError when something is lacking."""
        if self._extras:
            raise SettingsError([self.fault])
