# Stands in for an image of Rasa where no registry can be reached: real Rasa, laid out as in
# Rasa's own docker/Dockerfile.base and docker/Dockerfile.full.
ARG DEBIAN
FROM ${DEBIAN}
RUN useradd -rm -d /app -s /sbin/nologin -g root -u 1001 rasa

# uv, its cache, the authorities to trust and the hashes of all that is installed are mounted
# by the tests. Some files that the wheels bring don't compile, and never will.
ARG PYTHON
ARG RASA
ARG LOCK
ARG COMPILED
ENV PATH="/opt/venv/bin:$PATH"
RUN export SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt UV_CACHE_DIR=/uv-cache \
    && export UV_LINK_MODE=copy UV_PYTHON=/opt/venv/bin/python \
    && uv venv --quiet --python "${PYTHON}" /opt/venv \
    && uv pip install --quiet --require-hashes --constraints /requirements/docker.txt \
        "$(grep -o '^pip==[^ ]*' /requirements/docker.txt)" \
    && uv pip install --quiet --require-hashes --constraints "/requirements/${LOCK}.txt" \
        --build-constraints /requirements/sdists.txt --require-build-hashes "${RASA}" \
    && cd /opt/venv/lib/python*/site-packages \
    && (python -m compileall -q -j 0 ${COMPILED} > /dev/null || true)

ENV HOME=/app
WORKDIR /app
RUN chgrp -R 0 /app && chmod -R g=u /app && chmod o+wr /app
USER 1001
VOLUME /tmp
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
EXPOSE 5005
ENTRYPOINT ["rasa"]
CMD ["--help"]
