#!/bin/sh
# Writes new secrets for deploy/compose.yaml into deploy/secrets, once: sudo deploy/secrets.sh
set -eu
umask 077
cd "$(dirname "$0")"
if [ "$(id -u)" -ne 0 ]; then
    echo "secrets: run it as root: each file belongs to the user of a container" >&2
    exit 2
fi
if ! mkdir secrets; then
    echo "secrets: deploy/secrets exists, and nothing was changed" >&2
    exit 2
fi
chmod 711 secrets # Compose looks whether the files exist
cd secrets

random() { od -An -v -tx1 -N "$1" /dev/urandom | tr -d ' \n'; }

password=$(random 24)
access_key=$(random 10)
secret_key=$(random 20)
random 24 >catalogue_admin
printf "CREATE ROLE keywatch LOGIN PASSWORD '%s';\nCREATE DATABASE keywatch OWNER keywatch;\n" \
    "$password" >catalogue_sql
printf 'catalogue:5432:keywatch:keywatch:%s\n' "$password" >pgpass
printf '%s\n' "$access_key" >store_access_key
printf '%s\n' "$secret_key" >store_secret_key
printf '{"identities": [{"name": "keywatch", "credentials": [{"accessKey": "%s", "secretKey": "%s"}],
  "actions": ["List:keywatch", "Read:keywatch", "Tagging:keywatch", "Write:keywatch"]}]}\n' \
    "$access_key" "$secret_key" >store_identities
random 32 >key_hash

# Each file is for the user who reads it: Keywatch's (Containerfile), PostgreSQL's, and the store's.
chown 10001 key_hash pgpass store_access_key store_secret_key
chown 999 catalogue_sql
chown 1000 store_identities
echo "secrets: written to deploy/secrets; keep a copy of key_hash, which no backup of the lake contains"
