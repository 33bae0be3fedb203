// SPDX-License-Identifier: Apache-2.0
#include "agent/cli/render.h"

#include <gtest/gtest.h>

#include <fstream>

#include "agent/cli/commands.h"
#include "agent/cli/render_policy.h"

namespace fairlead::cli {
namespace {

const std::vector<Column>& columns_of(const std::string& op) {
  for (const Command& command : commands()) {
    if (command.op == op) return command.columns;
  }
  ADD_FAILURE() << op;
  return commands().front().columns;
}

TEST(RenderTable, Services) {
  const Json rows = Json::parse(R"([
    {"namespace": "default", "name": "web", "type": "ClusterIP", "headless": false, "cluster_ips": ["10.96.0.10", "fd00::a"],
     "ports": [{"name": "http", "port": 80, "protocol": "TCP", "node_port": 0},
               {"name": "dns", "port": 53, "protocol": "UDP", "node_port": 30053}],
     "balancing": "random", "backends": 3, "error": ""},
    {"namespace": "kube-system", "name": "db", "type": "ClusterIP", "headless": true, "cluster_ips": [], "ports": [],
     "balancing": "maglev", "backends": 0, "error": "map fl_service: full"},
    {"namespace": "shop", "name": "far", "type": "ClusterIP", "headless": false, "other_proxy": true, "cluster_ips": ["10.96.0.11"],
     "ports": [], "balancing": "random", "backends": 0, "error": ""}])");
  EXPECT_EQ(
      render_table(rows, columns_of("service.list")),
      "NAMESPACE     NAME   TYPE        CLUSTER-IP           PORT(S)               ALGORITHM   BACKENDS   STATE\n"
      "default       web    ClusterIP   10.96.0.10,fd00::a   80/TCP,53:30053/UDP   random      3          ok\n"
      "kube-system   db     ClusterIP   None                 <none>                maglev      0          map "
      "fl_service: "
      "full\n"
      "shop          far    ClusterIP   10.96.0.11           <none>                random      0          another "
      "proxy's\n");
}

TEST(RenderTable, Backends) {
  const Json rows = Json::parse(R"([
    {"namespace": "default", "service": "web", "service_port": 80, "protocol": "TCP", "address": "10.244.0.5", "port": 8080,
     "state": "active", "hits": 12, "open": 3, "pod_uid": "u-1"},
    {"namespace": "default", "service": "web", "service_port": 80, "protocol": "TCP", "address": "fd00::5", "port": 8080,
     "state": "terminating", "hits": 7, "open": 0, "pod_uid": ""}])");
  EXPECT_EQ(render_table(rows, columns_of("backend.list")),
            "NAMESPACE   SERVICE   PORT     BACKEND           STATE         HITS   OPEN   POD-UID\n"
            "default     web       80/TCP   10.244.0.5:8080   active        12     3      u-1\n"
            "default     web       80/TCP   [fd00::5]:8080    terminating   7      0      <none>\n");
}

TEST(RenderService, ShowsPoliciesAndPortsWithTheirBackends) {
  const Json service = Json::parse(R"({
    "namespace": "default", "name": "web", "uid": "u", "type": "ClusterIP", "headless": false,
    "cluster_ips": ["10.96.0.10"], "selector": {"app": "web"}, "balancing": "maglev", "zone_weights": {"a": 3, "b": 0},
    "affinity_timeout_seconds": 600, "internal_traffic_policy": "Local", "traffic_distribution": "",
    "publish_not_ready": true, "unread": ["fairlead.io/x: why"], "error": "", "ports": [
      {"name": "http", "port": 80, "protocol": "TCP", "target_port": "www", "hits": 12, "backends": [
        {"address": "fd00::5", "port": 8080, "state": "active", "weight": 3, "hits": 9, "open": 2, "node": "n1",
         "zone": "a", "pod_uid": "u-1"}]},
      {"name": "", "port": 53, "protocol": "UDP", "target_port": 53, "hits": 0, "backends": []}]})");
  EXPECT_EQ(render_service(service),
            "Name:                   default/web\n"
            "UID:                    u\n"
            "Type:                   ClusterIP\n"
            "Cluster IPs:            10.96.0.10\n"
            "Selector:               app=web\n"
            "Algorithm:              maglev\n"
            "Zone weights:           a=3,b=0\n"
            "Session affinity:       by client, 600 s\n"
            "Internal traffic:       Local\n"
            "Publishes not ready:    yes\n"
            "Without effect:         fairlead.io/x: why\n"
            "State:                  ok\n"
            "\n"
            "Port http 80/TCP to www, 12 connections\n"
            "BACKEND          STATE    WEIGHT   HITS   OPEN   NODE   ZONE   POD-UID\n"
            "[fd00::5]:8080   active   3        9      2      n1     a      u-1\n"
            "\n"
            "Port 53/UDP to 53, 0 connections\n");
}

TEST(RenderTable, EndpointsAndPods) {
  EXPECT_EQ(render_table(Json::parse(R"([{"podNamespace": "default", "podName": "web-0", "addresses": ["10.244.0.5"],
                                          "state": "up", "hostPorts": ["*:8080/TCP->80"],
                                          "device": "fl1234", "container": "0123456789abcdef0123"}])"),
                         columns_of("endpoint.list")),
            "NAMESPACE   POD     ADDRESSES    STATE   HOST-PORTS       DEVICE   CONTAINER\n"
            "default     web-0   10.244.0.5   up      *:8080/TCP->80   fl1234   0123456789abc\n");
  EXPECT_EQ(render_table(Json::array(), columns_of("pod.list")),
            "NAMESPACE   NAME   READY   STATUS   RESTARTS   IP   UID\n");
}

TEST(RenderTable, OddRowsDoNotBreakIt) {
  EXPECT_EQ(render_table(Json::parse(R"([7, {"name": "a\nb"}])"),
                         {{"NAME", [](const Json& row) { return cell_text(at(row, "name")); }}}),
            "NAME\n<none>\na b\n");
}

TEST(RenderStatus, ShowsAllThatMatters) {
  const Json status = Json::parse(R"({
    "ready": false, "serving": true, "node": "n1", "version": "0.1.0",
    "missing": ["pods: no answer in time"], "failing": {"services: default/web": "map fl_service: full"},
    "components": {"pods": {"error": "no answer in time"}, "services": {"synced": false, "services": 3, "backends": 9},
                   "manifests": {"complete": true, "directory": "/m", "objects": [1, 2], "trouble": ""}},
    "maps": [{"map": "fl_service", "used": 512, "capacity": 1024}],
    "refused": [{"file": "a.yaml", "document": 2, "kind": "Pod", "namespace": "default", "name": "web",
                 "field": "spec.containers[0].image", "reason": "required value", "line": 14, "lastGoodInForce": true}]})");
  EXPECT_EQ(render_status(status),
            "Synced:    no\nServing:   yes\n"
            "Node:      n1\n"
            "Version:   0.1.0\n"
            "Missing:   pods: no answer in time\n"
            "Failing:   services: default/web: map fl_service: full\n"
            "\n"
            "COMPONENT   STATE         FACTS\n"
            "manifests   in sync       directory=/m\n"
            "pods        no answer     error=no answer in time\n"
            "services    not in sync   backends=9 services=3\n"
            "\n"
            "MAP          USED   CAPACITY   FILL\n"
            "fl_service   512    1024       50%\n"
            "\n"
            "REFUSED     OBJECT            FIELD                      LAST GOOD   REASON\n"
            "a.yaml:14   Pod default/web   spec.containers[0].image   in force    required value\n");
  EXPECT_EQ(render_status({{"ready", true}, {"node", "n1"}, {"version", "0.1.0"}}),
            "Synced:    yes\nServing:   no\nNode:      n1\nVersion:   0.1.0\n");
}

TEST(RenderPolicy, BothDirections) {
  EXPECT_EQ(render_policy(Json::parse(R"({"namespace": "shop", "name": "web", "uid": "u1", "addresses": ["10.0.0.2"],
      "identities": [7], "in_force": true, "host_network": false, "egress": {"isolated": false},
      "ingress": {"isolated": true, "rule_set": 3, "policies": ["shop/a", "shop/b"], "rules": [
        {"policy": "shop/a", "rule": "ingress[0]", "peers": ["app=x in shop", "192.0.2.0/24"], "ports": ["80/TCP"]}]}})")),
            "Name:         shop/web\n"
            "UID:          u1\n"
            "Addresses:    10.0.0.2\n"
            "Identities:   7\n"
            "In force:     yes\n"
            "\n"
            "Ingress: isolated by shop/a; shop/b (rule set 3)\n"
            "POLICY   RULE         FROM                          PORTS\n"
            "shop/a   ingress[0]   app=x in shop; 192.0.2.0/24   80/TCP\n"
            "\n"
            "Egress: not isolated, all is allowed\n");
}

TEST(RenderPolicy, Trace) {
  EXPECT_EQ(render_trace(Json::parse(R"({"allowed": false, "from": "a/b", "from_address": "10.0.0.1", "to": "192.0.2.1",
      "to_address": "192.0.2.1", "port": "80/TCP", "egress": {"judged": true, "allowed": false, "why": "no rule allows it"},
      "ingress": {"judged": false, "allowed": true, "why": "elsewhere"}})")),
            "Verdict:      denied\n"
            "From:         a/b (10.0.0.1)\n"
            "To:           192.0.2.1\n"
            "Port:         80/TCP\n"
            "Egress:       denied: no rule allows it\n"
            "Ingress:      not judged here: elsewhere\n");
}

TEST(RenderYaml, NestsAndQuotesOnlyWhereNeeded) {
  const Json value = Json::parse(R"({
    "name": "web", "port": 80, "ready": true, "none": null, "empty": "", "list": [], "map": {},
    "ips": ["10.0.0.1", "::1", "10.0.0.0/24"], "words": ["yes", "80", "1.5", "12:30", "a: b", "-x", "ends:", "two words"],
    "ports": [{"name": "http", "backends": [{"a": 1}]}, [1, [2]]]})");
  EXPECT_EQ(render_yaml(value),
            "empty: \"\"\n"
            "ips:\n"
            "  - 10.0.0.1\n"
            "  - \"::1\"\n"
            "  - 10.0.0.0/24\n"
            "list: []\n"
            "map: {}\n"
            "name: web\n"
            "none: null\n"
            "port: 80\n"
            "ports:\n"
            "  - backends:\n"
            "      - a: 1\n"
            "    name: http\n"
            "  - - 1\n"
            "    - - 2\n"
            "ready: true\n"
            "words:\n"
            "  - \"yes\"\n"
            "  - \"80\"\n"
            "  - \"1.5\"\n"
            "  - \"12:30\"\n"
            "  - \"a: b\"\n"
            "  - \"-x\"\n"
            "  - \"ends:\"\n"
            "  - two words\n");
  EXPECT_EQ(render_yaml("x"), "x\n");
}

TEST(Documentation, NamesEveryCommand) {
  std::ifstream in(std::string(FAIRLEAD_DOCS) + "/fairleadctl.1.md");
  const std::string manual{std::istreambuf_iterator<char>(in), {}};
  for (const Command& command : commands()) {
    const std::string words = command.group.empty() ? command.verb : command.group + " " + command.verb;
    EXPECT_NE(manual.find("`" + words), std::string::npos) << words;
    EXPECT_NE(manual.find("`" + command.op + "`"), std::string::npos) << command.op;
  }
}

TEST(RenderDrop, NamesThePolicysSideAndWhosePolicyItIs) {
  Json drop{{"time", "t"},
            {"reason", "policy_ingress"},
            {"direction", "from-pod"},
            {"pod", "shop/client"},
            {"packets", 1},
            {"length", 60},
            {"protocol", ""},
            {"isolated_pod", "shop/web"}};
  EXPECT_EQ(render_drop(drop),
            "t policy_ingress  from shop/client denied by ingress of shop/web packets=1 length=60\n");
  drop["reason"] = "policy_egress";
  drop["isolated_pod"] = "shop/client";
  EXPECT_EQ(render_drop(drop),
            "t policy_egress   from shop/client denied by egress of shop/client packets=1 length=60\n");
  drop["reason"] = "fragment";
  drop["isolated_pod"] = "";
  EXPECT_EQ(render_drop(drop), "t fragment        from shop/client packets=1 length=60\n");
}

}  // namespace
}  // namespace fairlead::cli
