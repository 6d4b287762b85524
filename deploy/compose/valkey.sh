#!/bin/sh
# Starts Valkey in the Compose stack with the users of deploy/acl/users.acl. Their passwords come from files; the file of
# users has only their hashes, and is in memory.
set -eu
umask 077

# The hash of a password. An empty password, or a file that cannot be read, ends the script: the shell ends only for a
# command that fails in an assignment of its own.
hash() {
    password=$(cat "/run/secrets/redis-$1-password")
    if [ -z "$password" ]; then
        echo "the secret redis-$1-password is empty" >&2
        return 1
    fi
    printf %s "$password" | sha256sum | cut -d ' ' -f 1
}

api=$(hash api)
worker=$(hash worker)
operator=$(hash operator)
sed -e "s/^user tracker-api on/& #$api/" \
    -e "s/^user tracker-worker on/& #$worker/" \
    -e "s/^user tracker-operator on/& #$operator/" \
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
