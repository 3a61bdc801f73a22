# As the image's: makes the first user while only the loopback address is listened to.
set -eu
: > /run/settings.toml
server="/opt/secantus/bin/python -m secantus --config /run/settings.toml
  --storage-path /data/db --standalone --sync-on-commit --port 27017"
if [ -n "${MONGO_INITDB_ROOT_USERNAME:-}" ]; then
  if [ ! -e /data/db/.has_user ]; then
    $server --host 127.0.0.1 &
    until mongosh --quiet --eval "db.runCommand('ping')" > /dev/null; do sleep 0.2; done
    mongosh --quiet admin --eval "db.runCommand({
      createUser: process.env.MONGO_INITDB_ROOT_USERNAME,
      pwd: process.env.MONGO_INITDB_ROOT_PASSWORD, roles: ['root']}).ok || quit(1)"
    for script in /docker-entrypoint-initdb.d/*.js; do
      [ ! -e "$script" ] || mongosh --quiet "$script"
    done
    kill $!
    wait $! || true
    touch /data/db/.has_user
  fi
  server="$server --auth"
fi
exec $server --host 0.0.0.0
