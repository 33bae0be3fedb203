# SPDX-License-Identifier: Apache-2.0
# The steps of scripts/demo --control-plane: the node of a real cluster.
# shellcheck shell=bash disable=SC2154  # what demo.sh sets
# shellcheck source=control_plane.sh
source "$(dirname "${BASH_SOURCE[0]}")/control_plane.sh"

readonly url=http://10.96.0.80/

output_has() { grep -qE "$1" <<<"$output"; }
tasks() { ctr tasks ls | sort; }
node_is_ready() { kubectl get nodes --no-headers | grep -qE '^demo +Ready '; }
# The Deployment's pods that are ready and do not end, and all there are.
web_ready() {
  kubectl get pods -l app=web -o json | jq --argjson want "$1" -e '
    ([.items[] | select(.metadata.deletionTimestamp == null and any(.status.conditions[]; .type == "Ready" and .status == "True"))] | length) == $want
    and (.items | length) == $want'
}
web_addresses() { kubectl get pods -l app=web -o jsonpath='{range .items[*]}{.status.podIP}{"\n"}{end}' | sort; }
# The addresses in the maps are those that kubectl shows.
maps_agree() { [ "$(web_addresses)" = "$("${ctl[@]}" backend list -o json | jq -r '.[] | select(.service == "web" and .state == "active") | .address' | grep -v : | sort)" ]; }
container_count() { [ "$(ctr tasks ls | grep -c RUNNING)" = "$1" ]; }

show_cluster_install() {
  step "What it needs, and the build"
  run_long scripts/install-deps build demo
  run_long scripts/build fairlead-agent fairleadctl fairlead-cni test_images
  run_long test/go/k8s/build
  claim "the programs are built" ls build/bin/fairlead-agent build/bin/fairleadctl build/bin/fairlead-cni build/go/bin/k8s
}

show_control_plane() {
  step "A control plane: etcd, kube-apiserver, kube-controller-manager, kube-scheduler"
  node_up
  plane_files
  export PATH=$plane_dir/bin:$PATH
  etcd_start
  api_server_start || return 1
  controllers_start
  show kubectl version
  claim "the API server answers" output_has '^Server Version: v1\.37\.'
  run kubectl apply -f deploy/node-role.yaml
}

show_cluster_node() {
  step "A node: containerd, and the agent as system:node:demo"
  print_command "${on_node[@]}" containerd --config "$containerd_dir/config.toml"
  containerd_start "$containerd_dir" "$node_netns"
  run ctr images import build/test/images.tar
  run fairlead-agent install-cni --run-dir "$node_dir/run" --cni-bin-dir "$containerd_dir/cni/bin" --cni-conf-dir "$containerd_dir/cni/net.d"
  # shellcheck disable=SC2034  # for agent_start
  agent_source=(--kubeconfig "$plane_dir/node.kubeconfig")
  agent_start
  agent_wait 30 || return 1
  wait_for 30 node_is_ready || true
  show kubectl get nodes -o wide
  claim "kubectl get nodes tells a ready node" output_has '^demo +Ready '
  show "${ctl[@]}" status
  claim "every list is complete and in the maps" "${ctl[@]}" status
}

show_deployment() {
  step "A Deployment and its Service"
  run kubectl apply -f examples/cluster/web.yaml
  run kubectl wait --for=condition=Ready pod/client --timeout=60s || true
  wait_for 60 web_ready 1 || true
  wait_for 10 maps_agree || true
  show kubectl get pods,service,endpointslices -o wide
  claim "the pod that the scheduler placed here runs, and is in the maps" maps_agree
}

show_scaling() {
  step "Scaled 1 → 20 → 5 and rolled under load: 1,200 new connections/s and 20 keep-alive clients, no retry, over 500 ms is a failure"
  load_start $url
  run kubectl scale deployment web --replicas=20
  wait_for 120 web_ready 20 || true
  show kubectl get pods -o wide
  claim "20 pods are ready" web_ready 20
  wait_for 10 maps_agree || true
  claim "the maps have the addresses that kubectl shows" maps_agree
  run kubectl scale deployment web --replicas=5
  wait_for 60 web_ready 5 || true
  claim "5 pods are left" web_ready 5
  local before
  before=$(web_addresses)
  run kubectl rollout restart deployment web
  run kubectl rollout status deployment web --timeout=120s || true
  wait_for 60 web_ready 5 || true
  show kubectl get pods -o wide
  claim "5 others are ready" test -z "$(comm -12 <(echo "$before") <(web_addresses))"
  load_end 2
  claim "more than 20 pods had answered" load_was '.by_backend | length > 20'
  claim "at least 1,000 new connections/s" load_fast_enough
  claim "no request failed" load_was '.failed == 0'
  wait_for 10 container_count 12 || true
  claim "containerd runs what kubectl shows: 6 pods, each a container and a sandbox" container_count 12
}

show_truth() {
  step "What kubectl tells of a pod and of the node"
  show kubectl describe pod client
  claim "its story is told in events" output_has 'Started +[^ ]+ +kubelet'
  show kubectl describe node demo
  claim "the node's conditions are told with kubelet's reasons" output_has 'Ready +True .* KubeletReady'
  claim "its pods are counted" output_has '^  default +client '
  in_pod client cat /var/run/secrets/kubernetes.io/serviceaccount/token
  local token=$output
  run kubectl --kubeconfig /dev/null --server "$api_server" --certificate-authority "$plane_dir/pki/apiserver.crt" --token "$token" auth whoami
  claim "the API server knows the pod by its token" output_has 'system:serviceaccount:default:default'
}

show_outage() {
  step "The API server killed, and the agent too, under load"
  local before
  before=$(tasks)
  load_start $url
  plane_kill kube-apiserver
  run kill -9 "$(cat "$node_dir/agent.pid")"
  wait_for 10 load_has_run $(($(load_seconds) + 2))
  agent_start
  wait_for 20 agent_serves || true
  show "${ctl[@]}" status
  claim "the agent serves what was in force, and says what is missing" output_has '^Missing: +api: EndpointSlice'
  api_server_start || return 1
  agent_wait 60 || return 1
  run kubectl scale deployment web --replicas=3
  wait_for 60 web_ready 3 || true
  load_end 2
  claim "at least 1,000 new connections/s" load_fast_enough
  claim "no request failed" load_was '.failed == 0'
  wait_for 10 maps_agree || true
  claim "what was told meanwhile is made up for" maps_agree
  claim "the containers that stay are those from before" test -z "$(comm -13 <(echo "$before") <(tasks))"
}
agent_serves() { "${on_node[@]}" fl-echo get --show yes http://127.0.0.1:10256/readyz | grep -q '"healthy":true'; }

show_cluster() {
  show_cluster_install
  show_control_plane
  show_cluster_node
  show_deployment
  show_scaling
  show_truth
  show_outage
}
