# docker build -t thumbproxy .
# docker run -p 8080:8080 -e THUMBPROXY_KEYS=… -v /srv/media:/srv/media:ro thumbproxy serve \
#     --bind 0.0.0.0:8080 --origin /srv/media
#
# Debian 12 with its own Python 3.11: the surroundings that the tests run in.

FROM debian:bookworm-slim AS build
# Every x86-64 server since about 2015 has AVX2; for older ones: --build-arg SIMD=sse4.
ARG SIMD=avx2
# What Debian ships at the time of the build is what has its security fixes.
# hadolint ignore=DL3008
RUN apt-get update -qq \
    && apt-get install -qq -y --no-install-recommends \
        gcc libc6-dev libjpeg62-turbo-dev liblcms2-dev libwebp-dev python3-dev python3-venv zlib1g-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
ENV PATH=/opt/thumbproxy/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
COPY constraints.txt ./
RUN python3 -m venv /opt/thumbproxy && pip install --constraint constraints.txt pip
# Before our own code, so that compiling it is done once. Elsewhere plain Pillow is used.
COPY scripts/pillow-simd.sh scripts/
RUN if [ "$(uname -m)" = x86_64 ]; then \
        scripts/pillow-simd.sh "$SIMD" wheels && pip install --no-deps wheels/*.whl; \
    fi
COPY pyproject.toml LICENSE README.md ./
COPY thumbproxy thumbproxy
RUN pip install --constraint constraints.txt --build-constraint constraints.txt ".[all]" \
    && pip check && pip uninstall -y pip

FROM debian:bookworm-slim
# hadolint ignore=DL3008
RUN apt-get update -qq \
    && apt-get install -qq -y --no-install-recommends \
        libjpeg62-turbo liblcms2-2 libwebp7 libwebpdemux2 libwebpmux3 python3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin thumbproxy \
    && install -d -o thumbproxy -g thumbproxy /var/cache/thumbproxy
COPY --from=build /opt/thumbproxy /opt/thumbproxy
ENV PATH=/opt/thumbproxy/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    THUMBPROXY_CACHE_DIR=/var/cache/thumbproxy
USER 10001
VOLUME /var/cache/thumbproxy
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python3", "-c", "from http.client import HTTPConnection; c = HTTPConnection('127.0.0.1', 8080, timeout=4); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["thumbproxy"]
CMD ["serve", "--bind", "0.0.0.0:8080"]
