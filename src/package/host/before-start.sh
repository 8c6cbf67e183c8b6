#!/bin/sh
# Takes the data of an etcd on this host to the version that starts next:
#
#   ExecStartPre=/usr/lib/etcd-migrate/before-start /usr/bin/etcd $DAEMON_ARGS
#
# The words are those of ExecStart: the program, whose own version is the target, and its flags. It
# runs as the user of the unit and with its variables, so it sees what etcd will see. Exit code 0
# means that etcd may start; with any other code systemd does not start it.
#
#   TARGET_VERSION  a target other than the version of the program
#   MIGRATE_FLAGS   further flags of migrate, separated by spaces: --v2-content=convert
set -eu
here=$(dirname "$(readlink -f "$0")")

say() { printf 'before-start: %s\n' "$*" >&2; }
die() {
  say "error: $1"
  say "hint: $2"
  exit "$3"
}

[ $# -gt 0 ] || die 'there is no program' 'give the words of ExecStart= as arguments' 2
program=$1
shift

# The settings that migrate wants to know by its own names: from the flags, else the variables.
data=${ETCD_DATA_DIR:-} name=${ETCD_NAME:-} config=${ETCD_CONFIG_FILE:-}
cluster=${ETCD_INITIAL_CLUSTER:-}
listen=${ETCD_LISTEN_PEER_URLS:-} advertise=${ETCD_INITIAL_ADVERTISE_PEER_URLS:-}
extra=
keep() {
  extra="$extra '$(printf '%s' "$1" | sed "s/'/'\\\\''/g")'"
}
while [ $# -gt 0 ]; do
  word=$1
  shift
  # Go reads one dash as two.
  case $word in
    --*) flag=$word ;;
    -*) flag=-$word ;;
    *) keep "$word" && continue ;;
  esac
  case $flag in
    --data-dir | --name | --config-file | --initial-cluster | --listen-peer-urls | --initial-advertise-peer-urls)
      [ $# -gt 0 ] || die "$word has no value" 'etcd would not start either' 2
      value=$1
      shift
      ;;
    --data-dir=* | --name=* | --config-file=* | --initial-cluster=* | --listen-peer-urls=* | --initial-advertise-peer-urls=*)
      value=${flag#*=}
      ;;
    *) keep "$flag" && continue ;;
  esac
  case ${flag%%=*} in
    --data-dir) data=$value ;;
    --name) name=$value ;;
    --config-file) config=$value ;;
    --initial-cluster) cluster=$value ;;
    --listen-peer-urls) listen=$value ;;
    --initial-advertise-peer-urls) advertise=$value ;;
  esac
done

# With a configuration file etcd ignores everything else.
setting() {
  sed -n "s/^$1:[[:space:]]*//p" "$config" | sed "s/[[:space:]]#.*//; s/[[:space:]]*$//; s/^\"\(.*\)\"$/\1/; s/^'\(.*\)'$/\1/" | head -n 1
}
if [ -n "$config" ]; then
  [ -r "$config" ] || die "$config cannot be read" 'etcd would not start either' 1
  data=$(setting data-dir) name=$(setting name) cluster=$(setting initial-cluster)
  listen=$(setting listen-peer-urls) advertise=$(setting initial-advertise-peer-urls)
  ETCD_WAL_DIR=$(setting wal-dir) ETCD_INITIAL_CLUSTER_TOKEN=$(setting initial-cluster-token)
  export ETCD_WAL_DIR ETCD_INITIAL_CLUSTER_TOKEN
  unset ETCD_CONFIG_FILE
  extra=
fi
[ -n "$data" ] || die 'the data directory is not known' 'set ETCD_DATA_DIR= in the unit, or --data-dir' 2

# etcd makes its directory itself, as it wants it.
if [ ! -e "$data" ]; then
  say "$data is not there yet: nothing to do"
  exit 0
fi

version=${TARGET_VERSION:-}
if [ -z "$version" ]; then
  version=$("$program" --version | sed -n 's/^etcd Version: //p') || version=
  [ -n "$version" ] || die "$program does not say its version" 'name the program of ExecStart=, or set TARGET_VERSION=' 1
fi
# Data is the same for all versions of a minor: where the exact one is not bundled, another of its
# minor stands for it.
TARGET_VERSION=$version
bundled=$here/share/etcdimg/bundled-versions
if ! grep -qxF "$version" "$bundled"; then
  minor=$(printf '%s\n' "$version" | cut -d . -f 1,2 | sed 's/\./\\./g')
  near=$(grep "^$minor\." "$bundled" | tail -n 1) || near=
  if [ -n "$near" ]; then
    TARGET_VERSION=$near
    say "etcd $version is not bundled: $near stands for it"
  fi
fi

export TARGET_VERSION DATA_DIRECTORY="$data" TARGET_STORAGE=etcd3
[ -z "$cluster" ] || export INITIAL_CLUSTER="$cluster"
[ -z "$listen" ] || export LISTEN_PEER_URLS="$listen"
[ -z "$advertise" ] || export INITIAL_ADVERTISE_PEER_URLS="$advertise"
[ -n "${ETCD_CREDS:-}" ] || export ETCD_CREDS="$extra"
export ETCD_NAME="${name:-default}"

# A user who may not write beside the directory keeps the copy inside.
set --
copies=$data.bak
if [ -e "$copies" ]; then [ -w "$copies" ] || copies=; else [ -w "$(dirname "$data")" ] || copies=; fi
[ -n "$copies" ] || set -- --backup-dir "$data/.migrate/backup"

# shellcheck disable=SC2086 # Several flags are several words.
exec "$here/etcd-migrate" "$@" ${MIGRATE_FLAGS:-}
