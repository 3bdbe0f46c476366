"""The service as `dynamic-agents serve` runs it. Run as `python -m benchmarks.serve`."""

import uvicorn

from app.logs import configure_logging
from app.main import create_app
from app.settings import Settings

if __name__ == "__main__":
    settings = Settings.load()
    configure_logging(settings.log_format, settings.log_level)
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        ws="websockets-sansio",
        access_log=False,
        log_config=None,
    )
