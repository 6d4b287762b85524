# One image for the API (`tracker serve`) and the workers (`tracker worker`).
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
# Addresses of package indexes for pip. They are build arguments, so the image does not contain them.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
ARG PIP_CERT
WORKDIR /src
RUN python3 -m venv /opt/tracker
# The dependencies are installed before the code is copied, so that a change of the code does not install them again.
COPY pyproject.toml ./
COPY constraints/base.txt constraints/base.txt
RUN python3 -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
print(*p['dependencies'], *p['optional-dependencies']['docs'], sep='\n')" > requirements.txt \
 && /opt/tracker/bin/python -m pip install --no-cache-dir --disable-pip-version-check \
      --constraint constraints/base.txt --requirement requirements.txt
COPY README.md LICENSE ./
COPY tracker tracker
COPY workers workers
RUN /opt/tracker/bin/python -m pip install --no-cache-dir --disable-pip-version-check --no-deps .

FROM ${BASE}
RUN useradd --system --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin tracker
# Docker gives a new volume that is mounted here the owner of this directory.
RUN install -d -o tracker /spool
COPY --from=build /opt/tracker /opt/tracker
ENV PATH=/opt/tracker/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER tracker
EXPOSE 8080
# This is the check of the API. docker-compose.yml disables it for the workers, which serve no HTTP.
HEALTHCHECK --interval=5s --timeout=3s --start-period=20s --retries=3 \
  CMD ["python3", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8080/healthz', timeout=2)"]
ENTRYPOINT ["tracker"]
CMD ["serve", "--host", "0.0.0.0"]
