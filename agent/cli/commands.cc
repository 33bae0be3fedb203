// SPDX-License-Identifier: Apache-2.0
#include "agent/cli/commands.h"

#include <spdlog/fmt/fmt.h>

namespace fairlead::cli {
namespace {

Column field(std::string title, std::string name) {
  return {std::move(title), [name = std::move(name)](const Json& row) { return cell_text(at(row, name)); }};
}

// "80/TCP,443:30443/TCP", as kubectl writes a Service's ports.
std::string service_ports(const Json& row) {
  std::string all;
  for (const Json& port : at(row, "ports")) {
    const std::string node_port = cell_text(at(port, "node_port"));
    all += fmt::format("{}{}{}/{}", all.empty() ? "" : ",", cell_text(at(port, "port")),
                       node_port.empty() || node_port == "0" ? "" : ":" + node_port, cell_text(at(port, "protocol")));
  }
  return all;
}

std::string cluster_ips(const Json& row) {
  return at(row, "headless") == true ? "None" : cell_text(at(row, "cluster_ips"));
}

std::string service_state(const Json& row) {
  const std::string error = cell_text(at(row, "error"));
  if (!error.empty()) return error;
  return at(row, "other_proxy") == true ? "another proxy's" : "ok";
}

std::vector<Column> service_columns() {
  return {field("NAMESPACE", "namespace"), field("NAME", "name"),      field("TYPE", "type"),
          {"CLUSTER-IP", cluster_ips},     {"PORT(S)", service_ports}, field("ALGORITHM", "balancing"),
          field("BACKENDS", "backends"),   {"STATE", service_state}};
}

std::vector<Column> backend_columns() {
  return {field("NAMESPACE", "namespace"),
          field("SERVICE", "service"),
          {"PORT",
           [](const Json& row) { return cell_text(at(row, "service_port")) + "/" + cell_text(at(row, "protocol")); }},
          {"BACKEND", [](const Json& row) { return socket_text(at(row, "address"), at(row, "port")); }},
          field("STATE", "state"),
          field("HITS", "hits"),
          field("OPEN", "open"),
          field("POD-UID", "pod_uid")};
}

std::vector<Column> endpoint_columns() {
  return {field("NAMESPACE", "podNamespace"),
          field("POD", "podName"),
          field("ADDRESSES", "addresses"),
          field("STATE", "state"),
          field("HOST-PORTS", "hostPorts"),
          field("DEVICE", "device"),
          {"CONTAINER", [](const Json& row) { return cell_text(at(row, "container")).substr(0, 13); }}};
}

std::vector<Column> node_columns() {
  return {field("NAME", "name"), field("ADDRESSES", "addresses"), field("POD-CIDRS", "pod_cidrs"), field("WAY", "way"),
          field("CONDITION", "condition")};
}

std::vector<Column> pod_columns() {
  return {field("NAMESPACE", "namespace"), field("NAME", "name"), field("READY", "ready"), field("STATUS", "status"),
          field("RESTARTS", "restarts"),   field("IP", "ips"),    field("UID", "uid")};
}

// "10.0.0.1:80", or with its pod's name, "default/web:80".
std::string end_text(const Json& row, const std::string& end, const std::string& name) {
  const std::string pod = cell_text(at(row, name));
  const Json& value = at(row, end);
  return pod.empty() ? socket_text(at(value, "address"), at(value, "port"))
                     : fmt::format("{}:{}", pod, cell_text(at(value, "port")));
}

std::vector<Column> connection_columns() {
  return {field("PROTOCOL", "protocol"),
          field("STATE", "state"),
          {"CLIENT", [](const Json& row) { return end_text(row, "client", "client_pod"); }},
          {"SERVER", [](const Json& row) { return end_text(row, "server", "service"); }},
          {"BACKEND", [](const Json& row) { return at(row, "to").is_null() ? "" : end_text(row, "to", "server_pod"); }},
          {"REPLIED", [](const Json& row) { return at(row, "replied") == true ? "yes" : "no"; }},
          {"EXPIRES", [](const Json& row) { return cell_text(at(row, "expires_in_seconds")) + "s"; }}};
}

std::vector<Command> make_commands() {
  return {
      {"",
       "status",
       "status",
       Takes::kNothing,
       "Tell whether every list is complete, up to date and in the maps, and what is missing. Exits 0 only then.",
       {}},
      {"service", "list", "service.list", Takes::kNamespace,
       "List Services, with their addresses and backends in force.", service_columns()},
      {"service", "get", "service.get", Takes::kObject, "Show one Service, port by port, with its backends.", {}},
      {"backend", "list", "backend.list", Takes::kNamespace, "List where connections to Services may go.",
       backend_columns()},
      {"endpoint", "list", "endpoint.list", Takes::kNothing, "List the pods attached to this node's network.",
       endpoint_columns()},
      {"endpoint",
       "get",
       "endpoint.get",
       Takes::kName,
       "Show one attachment, named by NAMESPACE/POD, address, device or container.",
       {}},
      {"node", "list", "node.list", Takes::kNothing,
       "List the cluster's nodes, and how their pods are reached from here.", node_columns()},
      {"pod", "list", "pod.list", Takes::kNamespace, "List the pods that this node runs.", pod_columns()},
      {"pod", "get", "pod.get", Takes::kObject, "Show one pod with its containers.", {}},
      {"policy",
       "get",
       "policy.get",
       Takes::kObject,
       "Show the rules in force for a pod of this node, and from which NetworkPolicy each comes.",
       {}},
      {"policy",
       "trace",
       "policy.trace",
       Takes::kEnds,
       "Tell whether a connection is allowed, by the maps, and which rule decides.",
       {}},
      {"conntrack", "list", "conntrack.list", Takes::kFilter, "List tracked connections of pods.", connection_columns(),
       Answer::kPages},
      {"conntrack",
       "flush",
       "conntrack.flush",
       Takes::kFilter,
       "End tracked connections; their next packet begins one anew. Without a filter, all.",
       {}},
      {"",
       "monitor",
       "monitor.next",
       Takes::kFilter,
       "Show dropped and rejected packets and new connections as they come, until interrupted.",
       {},
       Answer::kStream},
      {"", "config", "config.get", Takes::kNothing, "Show the configuration in force; --config would read it.", {}},
      {"", "version", "version", Takes::kNothing, "Show the versions of this program and of the agent.", {}},
  };
}

// The other facts of a component's answer, "services=3 backends=9".
std::string component_facts(const Json& answer) {
  std::string all;
  for (const auto& [name, value] : answer.items()) {
    if (name == "synced" || name == "complete" || value.is_structured()) continue;
    const std::string text = cell_text(value);
    if (!text.empty()) all += (all.empty() ? "" : " ") + name + "=" + text;
  }
  return all;
}

std::string components_table(const Json& components) {
  Json rows = Json::array();
  for (const auto& [name, answer] : components.items()) {
    const bool synced = at(answer, answer.contains("synced") ? "synced" : "complete") == true;
    rows.push_back({{"name", name},
                    {"state", answer.contains("error") ? "no answer"
                              : synced                 ? "in sync"
                                                       : "not in sync"},
                    {"facts", component_facts(answer)}});
  }
  return render_table(rows, {field("COMPONENT", "name"), field("STATE", "state"), field("FACTS", "facts")});
}

std::string fill(const Json& row) {
  const double capacity = at(row, "capacity").is_number() ? at(row, "capacity").get<double>() : 0;
  const double used = at(row, "used").is_number() ? at(row, "used").get<double>() : 0;
  return capacity == 0 ? "" : fmt::format("{:.0f}%", 100 * used / capacity);
}

std::string refused_where(const Json& row) {
  std::string where = cell_text(at(row, "file"));
  if (!at(row, "line").is_null()) return where + ":" + cell_text(at(row, "line"));
  if (!at(row, "document").is_null()) where += " document " + cell_text(at(row, "document"));
  return where;
}

std::string refused_object(const Json& row) {
  const std::string ns = cell_text(at(row, "namespace"));
  const std::string name = cell_text(at(row, "name"));
  return fmt::format("{} {}{}{}", cell_text(at(row, "kind")), ns, ns.empty() ? "" : "/", name);
}

}  // namespace

const std::vector<Command>& commands() {
  static const std::vector<Command> all = make_commands();
  return all;
}

std::string render_drop(const Json& drop) {
  const std::string pod = cell_text(at(drop, "pod"));
  const std::string device = cell_text(at(drop, "device"));
  const std::string protocol = cell_text(at(drop, "protocol"));
  std::string line = fmt::format("{} {:<15} {} {}", cell_text(at(drop, "time")), cell_text(at(drop, "reason")),
                                 at(drop, "direction") == "to-pod" ? "to  " : "from",
                                 !pod.empty()      ? pod
                                 : !device.empty() ? "device " + device
                                                   : "device #" + cell_text(at(drop, "ifindex")));
  if (!protocol.empty()) {
    line += fmt::format(
        " {} {} -> {}", protocol, end_text(drop, "source", "source_pod"),
        end_text(drop, "destination", cell_text(at(drop, "service")).empty() ? "destination_pod" : "service"));
  }
  if (const std::string isolated = cell_text(at(drop, "isolated_pod")); !isolated.empty()) {
    line += fmt::format(" denied by {} of {}", at(drop, "reason") == "policy_egress" ? "egress" : "ingress", isolated);
  }
  return line + fmt::format(" packets={} length={}\n", cell_text(at(drop, "packets")), cell_text(at(drop, "length")));
}

std::string render_flow(const Json& flow) {
  std::string line =
      fmt::format("{} {:<15} {} {} -> {}", cell_text(at(flow, "time")), cell_text(at(flow, "state")),
                  cell_text(at(flow, "protocol")), end_text(flow, "client", "client_pod"),
                  end_text(flow, "server", cell_text(at(flow, "service")).empty() ? "server_pod" : "service"));
  if (at(flow, "to").is_object() && at(flow, "to") != at(flow, "server")) {
    line += " -> " + end_text(flow, "to", "server_pod");
  }
  if (at(flow, "from").is_object() && at(flow, "from") != at(flow, "client"))
    line += " as " + end_text(flow, "from", "");
  return line + "\n";
}

std::string render_service(const Json& service) {
  const auto line = [](std::string_view title, const std::string& text) {
    return text.empty() ? "" : fmt::format("{:<24}{}\n", title, text);
  };
  const auto pairs = [](const Json& object, char sign) {
    std::string all;
    for (const auto& [key, value] : object.items()) all += (all.empty() ? "" : ",") + key + sign + cell_text(value);
    return all;
  };
  const std::string seconds = cell_text(at(service, "affinity_timeout_seconds"));
  std::string out =
      line("Name:", cell_text(at(service, "namespace")) + "/" + cell_text(at(service, "name"))) +
      line("UID:", cell_text(at(service, "uid"))) + line("Type:", cell_text(at(service, "type"))) +
      line("Cluster IPs:", cluster_ips(service)) + line("Selector:", pairs(at(service, "selector"), '=')) +
      line("Algorithm:", cell_text(at(service, "balancing"))) +
      line("Zone weights:", pairs(at(service, "zone_weights"), '=')) +
      line("Session affinity:", seconds.empty() || seconds == "0" ? "none" : "by client, " + seconds + " s") +
      line("Internal traffic:", cell_text(at(service, "internal_traffic_policy"))) +
      line("Traffic distribution:", cell_text(at(service, "traffic_distribution"))) +
      line("Publishes not ready:", at(service, "publish_not_ready") == true ? "yes" : "");
  for (const Json& why : at(service, "unread")) out += line("Without effect:", cell_text(why));
  out += line("State:", service_state(service));
  for (const Json& port : at(service, "ports")) {
    const std::string name = cell_text(at(port, "name"));
    out += fmt::format("\nPort {}{}/{} to {}, {} connections\n", name.empty() ? "" : name + " ",
                       cell_text(at(port, "port")), cell_text(at(port, "protocol")), cell_text(at(port, "target_port")),
                       cell_text(at(port, "hits")));
    if (at(port, "backends").empty()) continue;
    out += render_table(at(port, "backends"),
                        {{"BACKEND", [](const Json& row) { return socket_text(at(row, "address"), at(row, "port")); }},
                         field("STATE", "state"),
                         field("WEIGHT", "weight"),
                         field("HITS", "hits"),
                         field("OPEN", "open"),
                         field("NODE", "node"),
                         field("ZONE", "zone"),
                         field("POD-UID", "pod_uid")});
  }
  return out;
}

std::string render_status(const Json& status) {
  std::string out = fmt::format(
      "Synced:    {}\nServing:   {}\nNode:      {}\nVersion:   {}\n", at(status, "ready") == true ? "yes" : "no",
      at(status, "serving") == true ? "yes" : "no", cell_text(at(status, "node")), cell_text(at(status, "version")));
  for (const Json& what : at(status, "missing")) out += "Missing:   " + cell_text(what) + "\n";
  for (const auto& [object, why] : at(status, "failing").items()) {
    out += fmt::format("Failing:   {}: {}\n", object, cell_text(why));
  }
  if (const Json& components = at(status, "components"); !components.empty()) {
    out += "\n" + components_table(components);
  }
  if (const Json& maps = at(status, "maps"); !maps.empty()) {
    out +=
        "\n" +
        render_table(maps, {field("MAP", "map"), field("USED", "used"), field("CAPACITY", "capacity"), {"FILL", fill}});
  }
  if (const Json& refused = at(status, "refused"); !refused.empty()) {
    const auto last_good = [](const Json& row) { return at(row, "lastGoodInForce") == true ? "in force" : "no"; };
    out += "\n" + render_table(refused, {{"REFUSED", refused_where},
                                         {"OBJECT", refused_object},
                                         field("FIELD", "field"),
                                         {"LAST GOOD", last_good},
                                         field("REASON", "reason")});
  }
  return out;
}

}  // namespace fairlead::cli
