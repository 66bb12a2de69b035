"""uvicorn's worker for gunicorn, with the settings of our own servers: `gunicorn -k MODULE.Worker`."""

from typing import Any, ClassVar

from uvicorn_worker import UvicornWorker

from harness.wire.options import UVICORN


class Worker(UvicornWorker):  # type: ignore[misc]  # the package ships no types
    """Serve with asyncio and httptools; by default, the worker takes uvloop if that is installed."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {**UVICORN, "lifespan": "on", "timeout_graceful_shutdown": 3}
