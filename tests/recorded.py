"""The command `thumbproxy` as tests start it:  python recorded.py serve ...

Its locks are recorded, and a memcached that is slow is waited for.
"""

from __future__ import annotations

from importlib import import_module

import lock_recorder

from thumbproxy.__main__ import main

if __name__ == "__main__":
    lock_recorder.install()
    import_module("patience").wait_for_memcached()  # what that loads is recorded
    main()
