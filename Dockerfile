# One base for both stages: the virtual environment from the first stage uses the interpreter of the second.
FROM docker.io/library/python:3.11-slim-bookworm AS base


FROM base AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
WORKDIR /build

# Install the libraries first, so that a change of the service does not reinstall them. Wheels only: nothing is compiled.
COPY requirements/build.lock requirements/runtime.lock requirements/
RUN python -m venv tools \
    && tools/bin/pip install --no-deps --require-hashes --only-binary :all: -r requirements/build.lock \
    && python -m venv --without-pip /opt/dynamic-agents \
    && tools/bin/pip --python /opt/dynamic-agents/bin/python install \
        --no-deps --require-hashes --only-binary :all: -r requirements/runtime.lock

COPY pyproject.toml README.md LICENSE ./
COPY app app
COPY seeds seeds
RUN tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
    && tools/bin/pip --python /opt/dynamic-agents/bin/python install --no-deps --no-index dist/*.whl


FROM base
LABEL org.opencontainers.image.title="Dynamic Agents" \
      org.opencontainers.image.description="Run AI agents that live in a MongoDB database."

RUN groupadd --gid 10001 dynamic-agents \
    && useradd --uid 10001 --gid 10001 --shell /usr/sbin/nologin \
        --home-dir /var/lib/dynamic-agents --no-create-home dynamic-agents \
    && install --directory --owner 10001 --group 10001 /var/lib/dynamic-agents

COPY --from=builder /opt/dynamic-agents /opt/dynamic-agents

# The installation includes the bytecode; the service writes none, so it also runs on a read-only root.
ENV PATH=/opt/dynamic-agents/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOST=0.0.0.0 \
    PORT=8000 \
    LOG_FORMAT=json

WORKDIR /var/lib/dynamic-agents
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM

# Without a proxy: HTTP_PROXY, if set for the model calls, cannot reach this loopback address.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-I", "-c", "import os, urllib.request as web; web.build_opener(web.ProxyHandler({})).open('http://127.0.0.1:' + os.environ['PORT'] + '/healthz', timeout=4)"]

ENTRYPOINT ["dynamic-agents"]
CMD ["serve"]
