# syntax=docker/dockerfile:1
FROM python:3.13-slim AS build
WORKDIR /src
RUN python -m venv /opt/sessiond
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY protos protos
COPY client client
COPY server server
RUN /opt/sessiond/bin/pip install --no-cache-dir --constraint constraints.txt '.[server,console,models,otel]'

FROM python:3.13-slim
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/sessiond --shell /usr/sbin/nologin sessiond
COPY --from=build /opt/sessiond /opt/sessiond
ENV PATH=/opt/sessiond/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    SESSIOND_DATA_DIR=/var/lib/sessiond/data \
    SESSIOND_LISTEN=0.0.0.0:50051
# By its number, so that an orchestrator can see that it is not root.
USER 10001
# Without SESSIOND_DATABASE_URL the embedded PostgreSQL keeps its data here.
VOLUME /var/lib/sessiond
EXPOSE 50051
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["sessiond", "health"]
ENTRYPOINT ["sessiond"]
# The health check asks SESSIOND_TARGET (localhost:50051), over TLS where SESSIOND_TLS_CERT is set: then the certificate has to name that host.
# A container listens beyond itself, so it asks for --tls-cert, --tls-key and --require-keys; on a private network: serve --insecure
CMD ["serve"]
