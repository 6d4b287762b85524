#!/bin/sh
# Starts Valkey in the Compose stack with the users of deploy/acl/users.acl. Their passwords come from files; the file of
# users has only their hashes, and is in memory.
set -eu
umask 077

hash() {
    printf %s "$(cat "/run/secrets/redis-$1-password")" | sha256sum | cut -d ' ' -f 1
}

sed -e "s/^user tracker-api on/& #$(hash api)/" \
    -e "s/^user tracker-worker on/& #$(hash worker)/" \
    -e "s/^user tracker-operator on/& #$(hash operator)/" \
    /compose/users.acl >/run/valkey/users.acl
# The user of the container's health check.
echo 'user health on nopass -@all +ping' >>/run/valkey/users.acl

# Without the append-only file or noeviction an accepted operation could be lost. Snapshots would add nothing to the
# append-only file. Protected mode is off, because every user but that of the health check needs a password.
exec valkey-server \
    --aclfile /run/valkey/users.acl \
    --dir /data \
    --appendonly yes \
    --appendfsync always \
    --save '' \
    --maxmemory "$MAXMEMORY" \
    --maxmemory-policy noeviction \
    --protected-mode no
