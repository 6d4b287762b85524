#!/bin/sh
# Starts a process of the tracker in the Compose stack. What is secret comes from files, so that no environment of a
# container has it. The name of the Redis user is REDIS_USER: api, worker or operator.
set -eu

password=$(cat "/run/secrets/redis-$REDIS_USER-password")
case $password in
'' | *[!A-Za-z0-9._~-]*)
    echo "the file redis-$REDIS_USER-password must hold letters, digits and . _ ~ - only, and at least one of them" >&2
    exit 2
    ;;
esac
export REDIS_URL="redis://tracker-$REDIS_USER:$password@redis:6379/0"

# A value in the environment takes the place of the file.
if [ -z "${TRACKER_TOKENS-}" ] && [ -e /run/secrets/tokens ]; then
    export TRACKER_TOKENS_FILE=/run/secrets/tokens
fi
if [ -z "${TRACKER_URL_SECRETS-}" ] && [ -e /run/secrets/url-secrets ]; then
    TRACKER_URL_SECRETS=$(cat /run/secrets/url-secrets)
    export TRACKER_URL_SECRETS
fi

exec tracker "$@"
