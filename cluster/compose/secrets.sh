#!/bin/sh
# What:     makes the passwords of compose.yaml, once, into .env beside it, which docker compose reads by itself
# Command:  cluster/compose/secrets.sh; then, for the doctor and submissions: set -a; . cluster/compose/.env; set +a
# Cost:     nothing
# Expected: a file that only you can read; a second time it refuses: the databases keep the first passwords
# Source:   the kernel's random numbers
set -eu
umask 077
file=$(dirname "$0")/.env
if [ -e "$file" ]; then
  echo "error: $file is there already" >&2
  echo "hint: new passwords need new volumes: docker compose down --volumes, then remove the file" >&2
  exit 1
fi
random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
printf 'POSTGRES_PASSWORD=%s\nLEOCLR_S3_ACCESS_KEY=%s\nLEOCLR_S3_SECRET_KEY=%s\n' "$(random)" "$(random)" "$(random)" >"$file.new"
mv "$file.new" "$file"
echo "wrote $file"
