"""The console: static files at `/`, which run in a browser and use the public API alone."""
