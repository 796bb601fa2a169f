#!/bin/sh
# Makes the database at first start, then becomes the server. Data without PG_VERSION is of a start that was cut off: made anew.
set -eu

case "${1:-}" in
    "" | -*) set -- postgres "$@" ;;
esac
if [ "$1" = postgres ] && [ ! -s "$PGDATA/PG_VERSION" ]; then
    : "${POSTGRES_PASSWORD:?is not set: the first start needs a password for POSTGRES_USER}"
    user=${POSTGRES_USER:-postgres}
    database=${POSTGRES_DB:-$user}
    made="$PGDATA/making"
    mkdir -p "$PGDATA"
    find "$PGDATA" -mindepth 1 -delete
    password=$(mktemp)
    printf '%s' "$POSTGRES_PASSWORD" > "$password"
    initdb --pgdata="$made" --username="$user" --pwfile="$password" --auth-local=trust --auth-host=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8
    rm "$password"
    echo "host all all all scram-sha-256" >> "$made/pg_hba.conf"
    echo "listen_addresses = '*'" >> "$made/postgresql.conf"
    if [ "$database" != postgres ]; then
        # On its socket alone: nobody takes this server for the one that is ready.
        pg_ctl --pgdata="$made" --wait --silent --options="-c listen_addresses=" start
        createdb --username="$user" --no-password --maintenance-db=postgres "$database"
        pg_ctl --pgdata="$made" --wait --silent --mode=fast stop
    fi
    chmod 700 "$PGDATA"
    for entry in "$made"/*; do
        [ "$entry" = "$made/PG_VERSION" ] || mv "$entry" "$PGDATA/"
    done
    mv "$made/PG_VERSION" "$PGDATA/"
    rmdir "$made"
fi
exec "$@"
