# SPDX-License-Identifier: Apache-2.0
# The demo's node: a network namespace with a containerd and an agent, all state in one folder; and how a step is shown and
# judged. Sourced by scripts/demo.
# shellcheck shell=bash
# shellcheck source=containerd.sh
source "$(dirname "${BASH_SOURCE[0]}")/containerd.sh"

readonly node_netns=fairlead-demo node_dir=/tmp/fairlead-demo bpf_root=/sys/fs/bpf/fairlead-demo
readonly manifests=$node_dir/manifests containerd_dir=$node_dir/containerd
# What a user would have in the environment; ctr and fairleadctl are shown without it.
export PATH=$top/build/bin:$top/build/test/tools:$PATH
export CONTAINERD_ADDRESS=$containerd_dir/containerd.sock CONTAINERD_NAMESPACE=k8s.io

shown=0 failed=0 output='' node_is_ours=''
# shellcheck disable=SC2054  # commas belong to the values
agent_source=(--manifests "$manifests" --pod-cidr 10.244.7.0/24,fd00:10:244:7::/64 --service-cidr 10.96.0.0/16,fd00:10:96::/112)
# shellcheck disable=SC2054
agent_command=(
  fairlead-agent --mode node --node-name demo --node-ip 192.168.77.2,fd00:77::2
  --runtime-endpoint "unix://$CONTAINERD_ADDRESS" --bpf-root "$bpf_root" --state-dir "$node_dir/state" --run-dir "$node_dir/run"
  --cni-bin-dir "$containerd_dir/cni/bin" --cni-conf-dir "$containerd_dir/cni/net.d"
  --metrics-bind-address 127.0.0.1:10249 --healthz-bind-address 127.0.0.1:10256 --log-level info
)

step() { printf '\n## %s\n' "$*"; }
print_command() { printf '$ %s\n' "$(printf '%q ' "$@" | sed -E 's/ +$//; s/\\([,=:])/\1/g')"; }

# Prints a command and its output, and keeps the output in $output. show goes on whatever the command's status is (a claim
# judges what it said); run ends the demo with it.
show() { run "$@" || true; }
run() {
  local status=0
  print_command "$@"
  output=$("$@" 2>&1) || status=$?
  [ -z "$output" ] || printf '%s\n' "$output"
  return $status
}
# For what takes long: the output comes as it is made, and is not kept.
run_long() {
  print_command "$@"
  "$@"
}

# claim TEXT CMD…: what the step says, and whether it holds.
claim() {
  local text=$1
  shift
  if "$@" >/dev/null 2>&1; then
    shown=$((shown + 1))
    printf 'ok      %s\n' "$text"
  else
    failed=$((failed + 1))
    printf 'FAILED  %s\n' "$text"
  fi
}


on_node=(nsenter --net="/run/netns/$node_netns")
ctl=(fairleadctl --run-dir "$node_dir/run")

# The id of a pod's running container.
container_of() {
  local id tasks
  tasks=$(ctr tasks ls | awk '$3 == "RUNNING" {print $1}')
  for id in $(ctr containers ls -q "labels.\"io.kubernetes.pod.name\"==$1"); do
    [ "$(ctr containers info "$id" | jq -r '.Labels["io.cri-containerd.kind"]')" = container ] || continue
    grep -qx "$id" <<<"$tasks" && echo "$id" && return
  done
  return 1
}

# in_pod POD CMD…: runs CMD in a pod's container, shown as such.
in_pod() {
  local id
  id=$(container_of "$1") || return 0
  shift
  show ctr tasks exec --exec-id "demo-$EPOCHREALTIME" "$id" "$@"
  # ctr may close the output of a short command before it is read: then it is asked once more.
  [ -n "$output" ] || show ctr tasks exec --exec-id "demo-$EPOCHREALTIME" "$id" "$@"
}

# The load runs in the client pod beside other steps; it ends when its file appears.
load_start() {
  local id
  id=$(container_of client)
  ctr tasks exec --exec-id "touch-$EPOCHREALTIME" "$id" rm -f /tmp/enough
  local command=(ctr tasks exec --exec-id "load-$EPOCHREALTIME" "$id" fl-echo load --url "$1" --rate 1200 --keepalive 20
    --keepalive-rate 20 --duration 300s --until-file /tmp/enough)
  print_command "${command[@]}"
  "${command[@]}" 2> >(tee "$node_dir/load.progress" | sed -u 's/^/    /') >"$node_dir/load.json" </dev/null &
  load_pid=$!
  wait_for 10 grep -q answered "$node_dir/load.progress"
}
load_seconds() { grep -c answered "$node_dir/load.progress" || true; }
load_has_run() { [ "$(load_seconds)" -ge "$1" ]; }
# Lets the load go on for N more seconds, ends it and prints its line.
load_end() {
  wait_for 30 load_has_run $(($(load_seconds) + $1))
  ctr tasks exec --exec-id "touch-$EPOCHREALTIME" "$(container_of client)" touch /tmp/enough
  wait "$load_pid" || true
  output=$(cat "$node_dir/load.json")
  printf '%s\n' "$output"
}
# load_was EXPR: judges the load's line with jq.
load_was() { jq -e "$1" "$node_dir/load.json"; }
load_fast_enough() { jq -e --argjson seconds "$(load_seconds)" '.new_connections >= 1000 * $seconds' "$node_dir/load.json"; }

node_up() {
  mkdir -m 700 "$node_dir" 2>/dev/null || die "$node_dir exists: a demo is running, or one was killed: scripts/demo --down"
  # shellcheck disable=SC2034  # read by scripts/demo
  node_is_ours=1
  mkdir "$node_dir"/{state,run}
  cp -r "$top/examples/demo" "$manifests"
  compgen -G '/sys/fs/cgroup/*/kubepods' >"$node_dir/cgroups.before" || true
  if ! mountpoint -q /sys/fs/bpf; then
    mount -t bpf bpf /sys/fs/bpf
    touch "$node_dir/bpffs.mounted"
  fi
  run ip netns add $node_netns
  run ip -n $node_netns link set lo up
  run ip -n $node_netns address add 192.168.77.2/32 dev lo
  run ip -n $node_netns address add fd00:77::2/128 dev lo nodad
}

agent_start() {
  local command=("${agent_command[@]}" "${agent_source[@]}")
  print_command "${on_node[@]}" "${command[@]}"
  "${on_node[@]}" setsid "${command[@]}" </dev/null >>"$node_dir/agent.log" 2>&1 &
  echo $! >"$node_dir/agent.pid"
  disown
}
agent_alive() { kill -0 "$(cat "$node_dir/agent.pid")"; }
agent_ready() { agent_alive && "${ctl[@]}" status; }
# Waits for the agent; the end of the demo when it does not come.
agent_wait() {
  local deadline=$(($(now_ms) + $1 * 1000))
  until agent_ready >/dev/null 2>&1; do
    if ! agent_alive 2>/dev/null || [ "$(now_ms)" -gt $deadline ]; then
      claim "the agent is ready" false
      tail -n 30 "$node_dir/agent.log"
      return 1
    fi
    sleep 0.05
  done
}

# Ends everything that node_up and the steps made, whatever of it there is. Pods first and by the agent, which then removes
# their cgroups and addresses itself.
node_down() {
  [ -d "$node_dir" ] || return 0
  say "cleaning up $node_dir"
  local pid
  rm -rf "${manifests:?}"/*
  plane_drain
  agent_alive 2>/dev/null && wait_for 30 no_tasks || say "pods are left to containerd"
  pid=$(cat "$node_dir/agent.pid" 2>/dev/null || true)
  if [ -n "$pid" ] && kill "$pid" 2>/dev/null; then
    wait_for 10 process_gone "$pid" || kill -KILL "$pid" 2>/dev/null || true
  fi
  remember_cgroups
  containerd_stop "$containerd_dir"
  for pid in $(ip netns pids $node_netns 2>/dev/null); do kill -KILL "$pid" 2>/dev/null || true; done
  fairlead-agent cleanup --bpf-root "$bpf_root" --run-dir "$node_dir/run" >/dev/null 2>&1 || true
  rm -rf "$bpf_root"
  ip netns del $node_netns 2>/dev/null || true
  remove_cgroups
  # Others may have pinned something there in the meantime.
  if [ -e "$node_dir/bpffs.mounted" ] && [ -z "$(find /sys/fs/bpf -mindepth 1 ! -name '*.debug')" ]; then umount /sys/fs/bpf || true; fi
  # Volumes in memory of pods that the agent had no time to take down.
  awk -v under="$node_dir/state/" 'index($5, under) == 1 { print $5 }' /proc/self/mountinfo | xargs -r -d '\n' umount
  rm -rf --one-file-system "$node_dir"
}
no_tasks() { [ -z "$(ctr tasks ls -q)" ]; }

# Where the pods' processes are, before they go.
remember_cgroups() {
  local pid
  for pid in $(ctr tasks ls 2>/dev/null | awk 'NR > 1 {print $2}'); do
    cut -d: -f3 "/proc/$pid/cgroup" 2>/dev/null || true
  done | sort -u >"$node_dir/cgroups"
}
# Removes the pods' cgroups and those above them, empty ones only, and none that was there before the demo.
remove_cgroups() {
  local path group
  while read -r path; do
    for (( ; ${#path} > 1; )); do
      for group in /sys/fs/cgroup/*"$path"; do
        grep -qxF "$group" "$node_dir/cgroups.before" || rmdir "$group" 2>/dev/null || true
      done
      path=${path%/*}
    done
  done <"$node_dir/cgroups"
}
