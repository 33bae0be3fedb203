# SPDX-License-Identifier: Apache-2.0
# Shared by all scripts: where the project is, how to speak and how to fail. Sourced, never run.
# shellcheck shell=bash
set -euo pipefail
export LC_ALL=C.UTF-8
# sbin may be missing from a plain user's PATH; bpftool, runc and ip live there on Debian.
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
readonly top

# One line of progress, on stderr: stdout belongs to results.
say() { printf '== %s\n' "$*" >&2; }

# Ends the script: usage errors with 2, everything else with 1.
die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}
usage() {
  printf 'usage: %s\n' "$*" >&2
  exit 2
}

need_root() { [ "$(id -u)" = 0 ] || die "needs root (network namespaces, BPF and containers)"; }

# Milliseconds since the epoch.
now_ms() { echo $((${EPOCHREALTIME/./} / 1000)); }

# wait_for SECONDS CMD…: polls until CMD succeeds; its last failure is the result.
wait_for() {
  local deadline=$(($(now_ms) + $1 * 1000))
  shift
  until "$@" >/dev/null 2>&1; do
    [ "$(now_ms)" -lt $deadline ] || return 1
    sleep 0.05
  done
}

# own_root "$0" "$@": where / is a chroot, runs the script again in a mount namespace whose root it is. A container runtime
# enters a container's mount namespace to exec in it, and in a chroot that leads to the wrong root.
own_root() {
  local root
  root=$(nsenter --mount=/proc/self/ns/mnt readlink /proc/$$/root 2>/dev/null) || return 0
  [ "$root" != / ] || return 0
  # shellcheck disable=SC2016  # for the inner shell
  exec nsenter --mount=/proc/self/ns/mnt unshare --mount --propagation private sh -euc '
    root=$1 cwd=$2
    shift 2
    mount --rbind "$root" "$root"
    cd "$root"
    mkdir -p .host
    pivot_root . .host
    cd "$cwd"
    umount -l /.host
    rmdir /.host
    exec "$@"' sh "$root" "$PWD" "$@"
}

# build_dir PRESET: where a preset of CMakePresets.json builds.
build_dir() {
  case $1 in
    release) echo "$top/build" ;;
    debug | asan | tsan) echo "$top/build-$1" ;;
    *) usage "unknown preset '$1': release, debug, asan or tsan" ;;
  esac
}
