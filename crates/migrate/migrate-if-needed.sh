#!/bin/sh
# The name that old manifests call. Everything is in migrate.
exec /usr/local/bin/migrate "$@"
