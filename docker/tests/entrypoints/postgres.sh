# As the image's: makes the user and the database at the first start, and shows that server
# on a socket alone.
set -eu
as_postgres="setpriv --reuid=postgres --clear-groups --"
mkdir -p "$PGDATA" /run/postgresql
chown postgres "$PGDATA" /run/postgresql
if [ ! -e "$PGDATA/PG_VERSION" ]; then
  umask 077
  echo "$POSTGRES_PASSWORD" > /run/password
  chown postgres /run/password
  $as_postgres initdb --no-sync --username "$POSTGRES_USER" --pwfile /run/password \
    --auth-local trust --auth-host scram-sha-256 > /dev/null
  echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
  $as_postgres pg_ctl --wait start \
    -o "-c listen_addresses= -c unix_socket_directories=/run/postgresql"
  if [ "${POSTGRES_DB:-postgres}" != postgres ]; then
    createdb --host /run/postgresql --username "$POSTGRES_USER" "$POSTGRES_DB"
  fi
  $as_postgres pg_ctl --wait stop
fi
exec $as_postgres postgres -c listen_addresses=* -c unix_socket_directories=/run/postgresql
