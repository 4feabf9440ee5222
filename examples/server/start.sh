#!/usr/bin/env bash
# Prefect's server with PostgreSQL as its database, on this machine alone, until it is stopped.
#
#   DATA      folder of the database (default ./prefect-server)
#   PORT      port of Prefect's API and dashboard (default 4200)
#   PREFECT   the program (default: the one of .venv, else of PATH)
#   PREFECT_SERVER_API_AUTH_STRING   user:password that clients must give as PREFECT_API_AUTH_STRING
#
# SQLite, Prefect's default, is not fit for several workers: it answers "database is locked".
set -euo pipefail
data=$(realpath -m "${DATA:-prefect-server}")
port=${PORT:-4200}
prefect=${PREFECT:-$([ -x .venv/bin/prefect ] && realpath -s .venv/bin/prefect || command -v prefect)}
programs=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -n 1)
[ -n "$programs" ] || { echo "PostgreSQL is not installed; on Debian: apt-get install postgresql" >&2; exit 1; }

mkdir -p "$data"
as=()
if [ "$(id -u)" = 0 ]; then # PostgreSQL refuses to run as root
  chown postgres "$data"
  as=(setpriv --reuid postgres --regid postgres --clear-groups)
fi
cd "$data"
[ -f "$data/db/PG_VERSION" ] ||
  "${as[@]}" "$programs/initdb" -D "$data/db" -A trust -U prefect -E UTF8 >"$data/initdb.log"
# On a socket in this folder alone: no port, and nobody else may enter the folder.
chmod 700 "$data"
"${as[@]}" "$programs/pg_ctl" -D "$data/db" -l "$data/db/log" -w -o "-k $data -c listen_addresses=''" start >/dev/null
trap '"${as[@]}" "$programs/pg_ctl" -D "$data/db" -m fast -w stop >/dev/null' EXIT

export PREFECT_SERVER_DATABASE_CONNECTION_URL="postgresql+asyncpg://prefect@/postgres?host=$data"
[ -n "${PREFECT_SERVER_API_AUTH_STRING:-}" ] ||
  echo "no PREFECT_SERVER_API_AUTH_STRING: whoever reaches the port may start runs" >&2
echo "export PREFECT_API_URL=http://127.0.0.1:$port/api"
cd /
"$prefect" server start --host 127.0.0.1 --port "$port" &
server=$!
trap 'kill -TERM $server 2>/dev/null; wait $server || true; cd "$data"; "${as[@]}" "$programs/pg_ctl" -D "$data/db" -m fast -w stop >/dev/null' EXIT
trap 'exit 0' TERM INT
wait $server
