#!/bin/sh
# Kept for manifests written for the old image: everything is in migrate.
exec /usr/local/bin/migrate "$@"
