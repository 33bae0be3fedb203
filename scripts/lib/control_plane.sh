# SPDX-License-Identifier: Apache-2.0
# A real control plane beside the demo's node: etcd, kube-apiserver, kube-controller-manager and kube-scheduler of
# test/go/k8s in the node's network namespace. Sourced by scripts/demo.
# shellcheck shell=bash disable=SC2154  # what demo.sh sets
#
#   $plane_dir/KUBECONFIG files admin.kubeconfig, node.kubeconfig    $plane_dir/NAME.log, NAME.pid of each component
#   $plane_dir/bin/kubectl   in the node's namespace

readonly plane_dir=$node_dir/plane api_server=https://192.168.77.2:6443

plane_files() {
  mkdir -p "$plane_dir/bin"
  openssl genrsa -out "$plane_dir/sa.key" 2048 2>/dev/null
  openssl rsa -in "$plane_dir/sa.key" -pubout -out "$plane_dir/sa.pub" 2>/dev/null
  printf '%s\n' 'admin-token,admin,admin,"system:masters"' 'node-token,system:node:demo,demo,"system:nodes"' >"$plane_dir/tokens.csv"
  local user
  for user in admin node; do
    cat >"$plane_dir/$user.kubeconfig" <<YAML
apiVersion: v1
kind: Config
current-context: demo
contexts: [{name: demo, context: {cluster: demo, user: $user}}]
clusters: [{name: demo, cluster: {server: "$api_server", certificate-authority: $plane_dir/pki/apiserver.crt}}]
users: [{name: $user, user: {token: $user-token}}]
YAML
  done
  cat >"$plane_dir/bin/kubectl" <<SH
#!/bin/sh
exec nsenter --net=/run/netns/$node_netns "$top/build/go/bin/k8s" kubectl --kubeconfig "$plane_dir/admin.kubeconfig" --cache-dir "$plane_dir/cache" "\$@"
SH
  chmod +x "$plane_dir/bin/kubectl"
}

# plane_start COMPONENT FLAG…: prints the command and starts it.
plane_start() {
  print_command k8s "$@"
  "${on_node[@]}" setsid "$top/build/go/bin/k8s" "$@" </dev/null >>"$plane_dir/$1.log" 2>&1 &
  echo $! >"$plane_dir/$1.pid"
  disown
}
plane_kill() { run kill -9 "$(cat "$plane_dir/$1.pid")"; }

etcd_start() {
  plane_start etcd --unsafe-no-fsync --data-dir "$plane_dir/etcd" --log-level error \
    --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 --initial-cluster default=http://127.0.0.1:2380
}
api_server_start() {
  plane_start kube-apiserver --etcd-servers http://127.0.0.1:2379 --bind-address 192.168.77.2 --advertise-address 192.168.77.2 \
    --secure-port 6443 --cert-dir "$plane_dir/pki" --token-auth-file "$plane_dir/tokens.csv" --authorization-mode Node,RBAC \
    --enable-admission-plugins NodeRestriction --service-cluster-ip-range 10.96.0.0/16,fd00:10:96::/112 \
    --service-account-issuer https://demo --service-account-key-file "$plane_dir/sa.pub" --service-account-signing-key-file "$plane_dir/sa.key"
  wait_for 60 kubectl get --raw /readyz
}
controllers_start() {
  local client=(--kubeconfig "$plane_dir/admin.kubeconfig" --leader-elect=false --secure-port 0)
  plane_start kube-controller-manager "${client[@]}" --service-account-private-key-file "$plane_dir/sa.key" --use-service-account-credentials \
    --root-ca-file "$plane_dir/pki/apiserver.crt" --allocate-node-cidrs --cluster-cidr 10.244.0.0/16,fd00:10:244::/48
  plane_start kube-scheduler "${client[@]}"
}

# Before the node ends: its pods, by their API server. Safe where there is none.
plane_drain() {
  [ -x "$plane_dir/bin/kubectl" ] || return 0
  "$plane_dir/bin/kubectl" delete deployments,pods --all --grace-period=1 --wait=false --request-timeout=5s >/dev/null 2>&1 || true
}
