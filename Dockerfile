# The hub's processes for docker-compose.yml. Not built where it was written: no Docker there.
FROM python:3.11-slim
WORKDIR /opt/hub
COPY requirements.lock ./
RUN pip install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY hub hub
COPY connectors connectors
COPY schemas schemas
RUN pip install --no-cache-dir --no-build-isolation --no-deps -e . \
    && useradd --system --uid 10001 hub \
    && install -d -o hub -g hub -m 0700 /var/lib/hub
USER hub
VOLUME /var/lib/hub
CMD ["hub", "--help"]
