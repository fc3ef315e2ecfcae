# Claude Proxy in a container: unprivileged, on a read-only root, with its data in a volume.
#
#   docker build --tag claude-proxy .
#   docker run --read-only --publish 127.0.0.1:4000:4000 --volume claude-proxy:/data --env AUTH__API_KEY claude-proxy

FROM python:3.11-slim AS build
COPY requirements.txt requirements.lock /src/
RUN python -m venv /opt/claude-proxy \
    && /opt/claude-proxy/bin/pip install --no-cache-dir --require-hashes --requirement /src/requirements.lock
COPY pyproject.toml README.md LICENSE run.py /src/
COPY proxy /src/proxy
COPY handlers /src/handlers
COPY static /src/static
COPY conf /src/conf
RUN /opt/claude-proxy/bin/pip install --no-cache-dir --no-deps /src \
    && /opt/claude-proxy/bin/python -m compileall -q /opt/claude-proxy/lib

FROM python:3.11-slim
COPY --from=build /opt/claude-proxy /opt/claude-proxy
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /data claude-proxy \
    && install --directory --mode 0700 --owner claude-proxy --group claude-proxy /data
ENV PATH=/opt/claude-proxy/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SERVER__HOST=0.0.0.0 \
    STORAGE__DATA_FOLDER=/data
USER 10001:10001
VOLUME /data
EXPOSE 4000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s CMD \
    ["python", "-c", "import urllib.request as u; u.build_opener(u.ProxyHandler({})).open('http://127.0.0.1:4000/health', timeout=4)"]
ENTRYPOINT ["claude-proxy"]
CMD ["--config", "/opt/claude-proxy/lib/python3.11/site-packages/conf/container.yaml"]
