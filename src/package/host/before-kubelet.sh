#!/bin/sh
# Takes the data of a static pod to the version of its image, before the kubelet starts it:
#
#   before-kubelet /etc/kubernetes/manifests/etcd.yaml
#
# The version is that of the image's tag, the flags are those of the manifest, as kubeadm writes
# both: one word a line, with `--name=value`. Exit code 0 means that the pod may start.
set -eu
here=$(dirname "$(readlink -f "$0")")
manifest=${1:-/etc/kubernetes/manifests/etcd.yaml}

say() { printf 'before-kubelet: %s\n' "$*" >&2; }
if [ ! -e "$manifest" ]; then
  say "there is no $manifest: nothing to do"
  exit 0
fi

if [ -z "${TARGET_VERSION:-}" ]; then
  image=$(sed -n "s/^[[:space:]]*\(- \)\{0,1\}image:[[:space:]]*[\"']\{0,1\}\([^\"'[:space:]]*\).*/\2/p" "$manifest" | head -n 1)
  TARGET_VERSION=$(printf '%s\n' "$image" | sed -n 's/.*:v\{0,1\}\([0-9]*\.[0-9]*\.[0-9]*\).*/\1/p')
  if [ -z "$TARGET_VERSION" ]; then
    say "error: the image \`$image\` in $manifest does not say its version"
    say 'hint: set TARGET_VERSION='
    exit 2
  fi
fi
export TARGET_VERSION

# Paths are the same inside of kubeadm's pod and outside.
words=$(sed -n "s/^[[:space:]]*- [\"']\{0,1\}\(--[a-z0-9-]*=[^\"']*\)[\"']\{0,1\}[[:space:]]*$/\1/p" "$manifest")
set -f
IFS='
'
# shellcheck disable=SC2086 # A line is a word.
set -- $words
unset IFS
exec "$here/before-start" etcd "$@"
