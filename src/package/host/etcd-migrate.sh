#!/bin/sh
# migrate with the programs of this package. `etcd-migrate --help` lists everything.
set -eu
here=$(dirname "$(readlink -f "$0")")
# Files of a package are not replaced by links to another version.
export DO_NOT_MOVE_BINARIES=true
exec "$here/bin/migrate" "$@" --bin-dir "$here/bin"
