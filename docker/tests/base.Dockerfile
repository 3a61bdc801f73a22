# Stands in for rasa/rasa:3.6.21-full where no registry can be reached: real Rasa, laid out
# as in Rasa's own docker/Dockerfile.base and docker/Dockerfile.full.
FROM scratch
# Ubuntu 22.04, made by mmdebstrap.
ADD ubuntu.tar /
# In the image, unlike at mmdebstrap's, Ubuntu's keys are there to check signatures with.
RUN echo "deb http://archive.ubuntu.com/ubuntu jammy main universe" > /etc/apt/sources.list \
    && useradd -rm -d /app -s /sbin/nologin -g root -u 1001 rasa

# uv, its cache and the authorities to trust are mounted by the tests. Some files that the
# wheels bring don't compile, and never will.
ARG RASA
RUN python3 -m venv /opt/venv \
    && SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt uv pip install --quiet \
        --link-mode copy --cache-dir /uv-cache --python /opt/venv/bin/python "${RASA}" \
    && (python3 -m compileall -q -j 0 /opt/venv/lib > /dev/null || true)
ENV PATH="/opt/venv/bin:$PATH"
ENV HOME=/app

WORKDIR /app
RUN chgrp -R 0 /app && chmod -R g=u /app && chmod o+wr /app
USER 1001
VOLUME /tmp
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
EXPOSE 5005
ENTRYPOINT ["rasa"]
CMD ["--help"]
