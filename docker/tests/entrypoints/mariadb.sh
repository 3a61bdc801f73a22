# As the image's: makes the users and the database at the first start, before the server
# listens. Debian's package has made the server's own tables.
set -eu
data=/var/lib/mysql
mkdir -p /run/mysqld
chown mysql "$data" /run/mysqld
if [ ! -e "$data/made-by-entrypoint" ]; then
  {
    echo "FLUSH PRIVILEGES;"
    echo "CREATE DATABASE IF NOT EXISTS \`${MARIADB_DATABASE:-test}\`;"
    if [ -n "${MARIADB_ROOT_PASSWORD:-}" ]; then
      echo "CREATE USER root@'%' IDENTIFIED BY '$MARIADB_ROOT_PASSWORD';"
      echo "GRANT ALL ON *.* TO root@'%' WITH GRANT OPTION;"
    fi
    if [ -n "${MARIADB_USER:-}" ]; then
      echo "CREATE USER '$MARIADB_USER'@'%' IDENTIFIED BY '$MARIADB_PASSWORD';"
      echo "GRANT ALL ON \`${MARIADB_DATABASE:-test}\`.* TO '$MARIADB_USER'@'%';"
    fi
  } | mariadbd --user=mysql --bootstrap
  touch "$data/made-by-entrypoint"
fi
exec mariadbd --user=mysql --bind-address=0.0.0.0 --skip-name-resolve
