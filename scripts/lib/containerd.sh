# SPDX-License-Identifier: Apache-2.0
# A containerd of our own in a folder of our own: for the demo and, through test/kit/containerd.h, for tests. Needs root.
# shellcheck shell=bash
#
#   DIR/containerd.sock   its socket         DIR/log    its log
#   DIR/cni/{bin,net.d}   its CNI folders    DIR/root, DIR/state, DIR/config.toml, DIR/pid
# shellcheck source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

readonly pause_image=localhost/fairlead/pause:demo

# The CRI part of the config; table and field names differ between 1.x (config version 2) and 2.x (version 3).
containerd_config_v2() {
  cat <<TOML
version = 2
root = "$1/root"
state = "$1/state"
disabled_plugins = ["io.containerd.internal.v1.restart", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs"]
[grpc]
address = "$1/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
path = "$1/opt"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "$pause_image"
restrict_oom_score_adj = true
disable_apparmor = true
netns_mounts_under_state_dir = true
stream_server_address = "127.0.0.1"
stream_server_port = "0"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "$1/cni/bin"
conf_dir = "$1/cni/net.d"
TOML
}

containerd_config_v3() {
  cat <<TOML
version = 3
root = "$1/root"
state = "$1/state"
disabled_plugins = ["io.containerd.internal.v1.restart", "io.containerd.nri.v1.nri"]
[grpc]
address = "$1/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
path = "$1/opt"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "$pause_image"
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
disable_apparmor = true
netns_mounts_under_state_dir = true
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
SystemdCgroup = false
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["$1/cni/bin"]
conf_dir = "$1/cni/net.d"
[plugins."io.containerd.grpc.v1.cri"]
stream_server_address = "127.0.0.1"
stream_server_port = "0"
TOML
}

# containerd_start DIR [NETNS] [BIN_DIR]: starts it and returns when CRI answers. BIN_DIR holds another containerd with its
# shim and ctr.
containerd_start() {
  local dir=$1 netns=${2:-} bin=${3:-} version enter=()
  # Not `ip netns exec`, which would hide bpffs and the cgroups.
  [ -z "$netns" ] || enter=(nsenter --net="/run/netns/$netns")
  [ -z "$bin" ] || PATH=$bin:$PATH
  mkdir -p "$dir"/{root,state,cni/bin,cni/net.d}
  version=$(containerd --version | sed -E 's/.* v?([0-9]+)\.[0-9]+\..*/\1/')
  if [ "$version" = 1 ]; then containerd_config_v2 "$dir"; else containerd_config_v3 "$dir"; fi >"$dir/config.toml"
  # A session of its own: a Ctrl-C meant for the caller leaves the pods to the caller's clean-up.
  "${enter[@]}" setsid containerd --config "$dir/config.toml" --log-level info </dev/null >>"$dir/log" 2>&1 &
  echo $! >"$dir/pid"
  wait_for 30 containerd_answers "$dir" && return
  tail -n 20 "$dir/log" >&2
  die "containerd did not come up in $dir"
}
containerd_answers() {
  kill -0 "$(cat "$1/pid")" && ctr --address "$1/containerd.sock" version &&
    ctr --address "$1/containerd.sock" plugins ls | grep -E '^io\.containerd\.grpc\.v1 +cri +.* ok *$'
}

# ctr against our containerd, in CRI's namespace.
containerd_ctr() {
  local dir=$1
  shift
  ctr --address "$dir/containerd.sock" --namespace k8s.io "$@"
}

# containerd_stop DIR: ends every task, containerd and its shims, and undoes its mounts. Safe to call on what is half up,
# half down or gone. The folder itself stays.
containerd_stop() {
  local dir=$1 pid shim tasks mounts
  pid=$(cat "$dir/pid" 2>/dev/null || true)
  if [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; then
    # Containers before sandboxes: a shim ends with its last task, and takes its socket along.
    for _ in 1 2; do
      mapfile -t tasks < <(containerd_ctr "$dir" tasks ls -q 2>/dev/null || true)
      [ ${#tasks[@]} = 0 ] || containerd_ctr "$dir" tasks delete --force "${tasks[@]}" >/dev/null 2>&1 || true
    done
    kill "$pid" 2>/dev/null || true
    wait_for 10 process_gone "$pid" || kill -KILL "$pid" 2>/dev/null || true
  fi
  rm -f "$dir/pid"
  for shim in $(containerd_shims "$dir"); do
    # With no daemon to ask, containers still run: they are the shim's children.
    mapfile -t tasks < <(pgrep -P "$shim")
    kill -KILL "${tasks[@]}" "$shim" 2>/dev/null || true
  done
  # Twice: a netns is mounted on itself where its folder is a mount.
  for _ in 1 2; do
    mapfile -t mounts < <(awk -v dir="$dir/" 'index($5, dir) == 1 {print $5}' /proc/self/mountinfo | sort -r)
    [ ${#mounts[@]} = 0 ] || umount --lazy "${mounts[@]}" 2>/dev/null || true
  done
}
process_gone() { ! kill -0 "$1" 2>/dev/null || grep -q '^State:.Z' "/proc/$1/status"; }

# Pids of the shims that serve DIR's containerd.
containerd_shims() {
  local process
  for process in /proc/[0-9]*; do
    [[ $(readlink "$process/exe") == */containerd-shim-* ]] && grep -qzxF "$1/containerd.sock" "$process/cmdline" &&
      echo "${process#/proc/}"
  done 2>/dev/null
  return 0
}
