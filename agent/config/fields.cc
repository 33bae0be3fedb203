// SPDX-License-Identifier: Apache-2.0
#include "agent/config/fields.h"

#include <algorithm>
#include <cctype>
#include <charconv>

namespace fairlead::config {
namespace {

constexpr std::uint32_t kMaxCount = 1U << 24;  // of entries in a map
constexpr std::uint32_t kMaxPort = 65535;
constexpr std::uint32_t kMaxVni = (1U << 24) - 1;  // RFC 7348
constexpr std::size_t kIfnameLimit = 15;
constexpr std::uint16_t kFirstFreePort = 32768;  // above NodePorts

using Set = std::function<Result<>(AgentConfiguration&, const std::string&)>;
using Get = std::function<Json(const AgentConfiguration&)>;
using Configuration = AgentConfiguration;

// How a kind of value is read and printed; `member` says where it goes.
struct Access {
  Set set;
  Get get;
};

template <class T, class Parse, class Print>
Access access(T Configuration::* member, Parse parse, Print print) {
  return {[member, parse](Configuration& out, const std::string& text) -> Result<> {
            FL_LET(out.*member, parse(text));
            return {};
          },
          [member, print](const Configuration& from) -> Json { return print(from.*member); }};
}

Access text(std::string Configuration::* member, Result<> (*check)(const std::string&)) {
  return {[member, check](Configuration& out, const std::string& value) -> Result<> {
            FL_TRY(check(value));
            out.*member = value;
            return {};
          },
          [member](const Configuration& from) { return (from.*member).empty() ? Json() : Json(from.*member); }};
}

Access duration(std::chrono::milliseconds Configuration::* member) {
  return access(member, parse_duration, format_duration);
}

template <class T>
Access list(std::vector<T> Configuration::* member, Result<std::vector<T>> (*parse)(std::string_view)) {
  return access(member, parse, [](const std::vector<T>& values) {
    std::string joined;
    for (const T& value : values) joined += (joined.empty() ? "" : ",") + value.str();
    return joined.empty() ? Json() : Json(joined);
  });
}

Access bind_address(std::optional<SocketAddress> Configuration::* member) {
  return access(
      member,
      [](const std::string& value) -> Result<std::optional<SocketAddress>> {
        if (value == "off") return std::nullopt;
        FL_LET(const SocketAddress address, SocketAddress::parse(value));
        return address;
      },
      [](const std::optional<SocketAddress>& address) { return address ? address->str() : "off"; });
}

template <class T>
Access choice(T Configuration::* member, std::vector<std::pair<std::string, T>> values) {
  return access(
      member,
      [values](const std::string& value) -> Result<T> {
        std::string all;
        for (const auto& [name, meaning] : values) {
          if (name == value) return meaning;
          all += (all.empty() ? "" : ", ") + name;
        }
        return fail(Code::kInvalid, "\"{}\" is not one of {}", value, all);
      },
      [values](T value) { return std::ranges::find(values, value, &std::pair<std::string, T>::second)->first; });
}

Result<> check_path(const std::string& value) {
  if (value.empty()) return fail(Code::kInvalid, "a path is required");
  return {};
}

Result<> check_absolute(const std::string& value) {
  if (!value.starts_with('/')) return fail(Code::kInvalid, "\"{}\" is not an absolute path", value);
  return {};
}

Result<> check_endpoint(const std::string& value) {
  if (!value.starts_with("unix:///")) return fail(Code::kInvalid, "\"{}\": want unix:///PATH", value);
  return {};
}

// DNS-1123 subdomain: what a Node may be called.
Result<> check_node_name(const std::string& value) {
  const auto alphanumeric = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  bool good = !value.empty() && value.size() <= 253;
  for (std::size_t i = 0; i < value.size(); ++i) {
    const bool edge = i == 0 || i + 1 == value.size() || value[i - 1] == '.' || value[i + 1] == '.';
    good = good && (alphanumeric(value[i]) || (!edge && (value[i] == '-' || value[i] == '.')));
  }
  if (!good) return fail(Code::kInvalid, "\"{}\" is not a node name (lower-case letters, digits, '-' and '.')", value);
  return {};
}

Result<> check_absolute_or_none(const std::string& value) {
  if (value.empty()) return {};
  return check_absolute(value);
}

// As text(), for what may be set to nothing.
Access optional_text(std::string Configuration::* member, Result<> (*check)(const std::string&)) {
  Access out = text(member, check);
  out.get = [member](const Configuration& from) { return Json(from.*member); };
  return out;
}

// "KEY=VALUE,…" of labels; their form is the API server's to judge.
Result<std::map<std::string, std::string>> parse_labels(const std::string& text) {
  std::map<std::string, std::string> labels;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find(',', at), text.size());
    const std::string item = text.substr(at, end - at);
    const std::size_t sign = item.find('=');
    if (sign == 0 || sign == std::string::npos) return fail(Code::kInvalid, "\"{}\": want KEY=VALUE", item);
    labels[item.substr(0, sign)] = item.substr(sign + 1);
    at = end + 1;
  }
  return labels;
}

Access labels(std::map<std::string, std::string> Configuration::* member) {
  return access(member, parse_labels, [](const std::map<std::string, std::string>& all) {
    std::string joined;
    for (const auto& [key, value] : all) joined += (joined.empty() ? "" : ",") + key + "=" + value;
    return joined.empty() ? Json() : Json(joined);
  });
}

Result<std::uint32_t> parse_number(std::string_view text, std::uint32_t limit) {
  std::uint32_t value = 0;
  const char* end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc{} || at != end || value == 0 || value > limit) {
    return fail(Code::kInvalid, "\"{}\": want a number of 1 to {}", text, limit);
  }
  return value;
}

Access count(std::uint32_t Configuration::* member) {
  return access(
      member, [](const std::string& text) { return parse_number(text, kMaxCount); },
      [](std::uint32_t value) { return Json(std::to_string(value)); });
}

// As access(), for what is inside `paths`.
template <class T, class Parse, class Print>
Access path_access(T PathSettings::* member, Parse parse, Print print) {
  return {[member, parse](Configuration& out, const std::string& text) -> Result<> {
            FL_LET(out.paths.*member, parse(text));
            return {};
          },
          [member, print](const Configuration& from) -> Json { return print(from.paths.*member); }};
}

Access path_number(std::uint32_t PathSettings::* member, std::uint32_t limit) {
  return path_access(
      member, [limit](const std::string& text) { return parse_number(text, limit); },
      [](std::uint32_t value) { return Json(std::to_string(value)); });
}

Access path_switch(bool PathSettings::* member) {
  return path_access(
      member,
      [](const std::string& text) -> Result<bool> {
        if (text != "true" && text != "false") return fail(Code::kInvalid, "\"{}\": want true or false", text);
        return text == "true";
      },
      [](bool value) { return Json(value ? "true" : "false"); });
}

Result<Tunnel> parse_tunnel(const std::string& text) {
  if (text == "none") return Tunnel::kNone;
  if (text == "vxlan") return Tunnel::kVxlan;
  return fail(Code::kInvalid, "\"{}\" is not one of none, vxlan", text);
}

Json print_tunnel(Tunnel tunnel) {
  return tunnel == Tunnel::kNone ? "none" : "vxlan";
}

// The items of a text with commas; an empty item stays one, for its parser to refuse.
std::vector<std::string> items_of(const std::string& text) {
  std::vector<std::string> items(1);
  for (const char c : text) {
    if (c == ',') {
      items.emplace_back();
    } else {
      items.back() += c;
    }
  }
  return items;
}

Result<std::vector<std::string>> parse_devices(const std::string& text) {
  std::vector<std::string> devices = items_of(text);
  for (const std::string& device : devices) {
    if (device.empty() || device.size() > kIfnameLimit || device.find_first_of("/: ") != std::string::npos) {
      return fail(Code::kInvalid, "\"{}\" is no device name", device);
    }
  }
  return devices;
}

Json print_devices(const std::vector<std::string>& devices) {
  std::string joined;
  for (const std::string& device : devices) joined += (joined.empty() ? "" : ",") + device;
  return joined.empty() ? Json() : Json(joined);
}

Result<std::vector<Cidr>> parse_many_cidrs(const std::string& text) {
  std::vector<Cidr> ranges;
  if (text.empty()) return ranges;
  for (const std::string& item : items_of(text)) {
    FL_LET(const Cidr range, Cidr::parse(item));
    ranges.push_back(range);
  }
  return ranges;
}

Json print_cidrs(const std::vector<Cidr>& ranges) {
  std::string joined;
  for (const Cidr& range : ranges) joined += (joined.empty() ? "" : ",") + range.str();
  return joined.empty() ? Json() : Json(joined);
}

// "61000-65535". NodePorts are below; a connection of a NodePort must never look like a masqueraded one.
Result<PortRange> parse_ports(const std::string& text) {
  const std::size_t dash = text.find('-');
  if (dash == std::string::npos) return fail(Code::kInvalid, "\"{}\": want FIRST-LAST", text);
  FL_LET(const std::uint32_t first, parse_number(std::string_view(text).substr(0, dash), kMaxPort));
  FL_LET(const std::uint32_t last, parse_number(std::string_view(text).substr(dash + 1), kMaxPort));
  if (first > last || first < kFirstFreePort) {
    return fail(Code::kInvalid, "\"{}\": want a range within {}-{}", text, kFirstFreePort, kMaxPort);
  }
  return PortRange{static_cast<std::uint16_t>(first), static_cast<std::uint16_t>(last)};
}

Json print_ports(PortRange ports) {
  return fmt::format("{}-{}", ports.first, ports.last);
}

Result<std::vector<IpAddress>> parse_servers(std::string_view text) {
  std::vector<IpAddress> servers;
  for (const std::string& item : items_of(std::string(text))) {
    FL_LET(const IpAddress server, IpAddress::parse(item));
    servers.push_back(server);
  }
  return servers;
}

// A DNS domain, as the search lines of pods and their full names have it.
Result<> check_domain(const std::string& value) {
  if (check_node_name(value)) return {};
  return fail(Code::kInvalid, "\"{}\" is no domain (lower-case letters, digits, '-' and '.')", value);
}

Access balancing(Balancing Configuration::* member) {
  std::vector<std::pair<std::string, Balancing>> values;
  for (const auto& [name, value] : kBalancingNames) values.emplace_back(name, value);
  return choice(member, std::move(values));
}

Result<std::vector<Cidr>> parse_cidrs(std::string_view value) {
  return parse_cidr_list(value);
}

Field field(std::string group, std::string flag, std::string name, std::string placeholder, std::string help,
            std::string default_text, Access access) {
  return {std::move(group), std::move(flag),         std::move(name),       std::move(placeholder),
          std::move(help),  std::move(default_text), std::move(access.set), std::move(access.get)};
}

std::vector<Field> make_fields() {
  using C = Configuration;
  const std::string objects = "Objects", node = "This node", places = "Places", services = "Services",
                    talk = "Serving and logs", pods = "Pods", paths = "Other nodes and the world";
  return {
      field(objects, "mode", "mode", "MODE",
            "node: run this node's pods, their network and the Services (in place of a kubelet and kube-proxy). "
            "dataplane: Services and the pod network only, beside a stock kubelet.",
            "", choice(&C::mode, {{"node", Mode::kNode}, {"dataplane", Mode::kDataplane}})),
      field(
          objects, "manifests", "manifests", "DIR",
          "Take all objects from the YAML and JSON files below this folder, which is watched; no API server is needed.",
          "", text(&C::manifests, check_path)),
      field(objects, "kubeconfig", "kubeconfig", "FILE", "Take all objects from the API server that this file names.",
            "in a pod, its service account", text(&C::kubeconfig, check_path)),
      field(objects, "pod-manifest-path", "staticPodPath", "DIR",
            "Run the static pods in this folder's YAML and JSON files too, beside those of the API server.", "none",
            text(&C::static_pod_path, check_path)),

      field(node, "node-name", "nodeName", "NAME", "The name of this node's Node object.",
            "the host name, in lower case", text(&C::node_name, check_node_name)),
      field(node, "node-ip", "nodeIP", "IP[,IP]",
            "This node's addresses, at most one of each family, the primary first.",
            "the source address of the default route", list(&C::node_ips, parse_ip_list)),
      field(node, "pod-cidr", "podCIDR", "CIDR[,CIDR]",
            "Give this node's pods addresses from here, at most one range of each family.",
            "the Node object's podCIDRs; with --manifests, where there is no Node of this name, 10.244.0.0/24",
            list(&C::pod_cidrs, parse_cidrs)),
      field(node, "service-cidr", "serviceCIDR", "CIDR[,CIDR]",
            "Give Services from manifests their cluster IPs from here. An API server gives them itself.",
            "with --manifests 10.96.0.0/16", list(&C::service_cidrs, parse_cidrs)),

      field(
          node, "node-labels", "nodeLabels", "KEY=VALUE[,…]",
          "Labels of this node. With --manifests the zone of topology.kubernetes.io/zone; with an API server the Node "
          "object is registered with them, and what it says counts.",
          "", labels(&C::node_labels)),

      field(paths, "tunnel", "tunnel", "KIND",
            "How pods' packets reach other nodes: none (the network between the nodes knows their pods' addresses, or "
            "all nodes are on one) or vxlan.",
            "", path_access(&PathSettings::tunnel, parse_tunnel, print_tunnel)),
      field(paths, "vxlan-port", "vxlanPort", "PORT", "The tunnel's UDP port, the same at every node.", "",
            path_number(&PathSettings::vxlan_port, kMaxPort)),
      field(paths, "vxlan-vni", "vxlanVNI", "NUMBER", "The tunnel's network identifier, the same at every node.", "",
            path_number(&PathSettings::vxlan_vni, kMaxVni)),
      field(paths, "uplink", "uplinks", "DEVICE[,…]", "The devices that lead to other nodes and the world.",
            "those that carry the node's addresses", path_access(&PathSettings::uplinks, parse_devices, print_devices)),
      field(paths, "masquerade", "masquerade", "true|false",
            "Let what pods send to the world come from the node's address.", "",
            path_switch(&PathSettings::masquerade)),
      field(paths, "non-masquerade-cidr", "nonMasqueradeCIDRs", "CIDR[,…]",
            "Destinations that see pods' own addresses, besides the cluster's nodes and pods.", "none",
            path_access(&PathSettings::non_masquerade_cidrs, parse_many_cidrs, print_cidrs)),
      field(paths, "masquerade-ports", "masqueradePorts", "FIRST-LAST",
            "Ports of masqueraded connections; the kernel is told to give none of them to sockets by itself.", "",
            path_access(&PathSettings::masquerade_ports, parse_ports, print_ports)),

      field(services, "load-balancing", "loadBalancing", "ALGORITHM",
            "Spread connections of Services without annotation fairlead.io/load-balancing this way: random, "
            "round-robin, least-connections, source-hash, destination-hash or maglev.",
            "", balancing(&C::load_balancing)),
      field(services, "proxy-config", "proxyConfig", "FILE",
            "Read this file of kube-proxy's, too (KubeProxyConfiguration v1alpha1). Flags and --config win over it.",
            "", text(&C::proxy_config, check_path)),
      field(services, "", "maxServices", "NUMBER",
            "Room for Service ports, of each family. Changed at the next start, under traffic.", "",
            count(&C::max_services)),
      field(services, "", "maxBackends", "NUMBER", "Room for backends of all Service ports, of each family.", "",
            count(&C::max_backends)),

      field(places, "runtime-endpoint", "runtimeEndpoint", "URL", "The CRI socket of the container runtime.", "",
            text(&C::runtime_endpoint, check_endpoint)),
      field(places, "bpf-root", "bpfRoot", "DIR",
            "Pin BPF maps and links here, in a BPF file system. They go on forwarding while no agent runs.", "",
            text(&C::bpf_root, check_absolute)),
      field(places, "cgroup-root", "cgroupRoot", "DIR",
            "Attach socket programs to this cgroup and keep pods below it; a folder of a cgroup2 file system.",
            "where cgroup2 is mounted", text(&C::cgroup_root, check_absolute)),
      field(places, "state-dir", "stateDir", "DIR", "Keep here what must survive a reboot.", "",
            text(&C::state_dir, check_absolute)),
      field(places, "run-dir", "runDir", "DIR", "Keep the agent's socket here.", "", text(&C::run_dir, check_absolute)),
      field(places, "cni-bin-dir", "cniBinDir", "DIR", "install-cni puts the program fairlead-cni here.", "",
            text(&C::cni_bin_dir, check_absolute)),
      field(places, "cni-conf-dir", "cniConfDir", "DIR", "install-cni puts the network configuration here.", "",
            text(&C::cni_conf_dir, check_absolute)),

      field(talk, "metrics-bind-address", "metricsBindAddress", "IP:PORT",
            "Serve Prometheus metrics at /metrics here; \"off\" serves none.", "",
            bind_address(&C::metrics_bind_address)),
      field(talk, "healthz-bind-address", "healthzBindAddress", "IP:PORT",
            "Serve /healthz, /livez and /readyz here; \"off\" serves none.", "",
            bind_address(&C::healthz_bind_address)),
      field(talk, "log-level", "logLevel", "LEVEL", "Log events of this weight and above: debug, info, warn or error.",
            "",
            choice(&C::log_level, {{"debug", log::Level::kDebug},
                                   {"info", log::Level::kInfo},
                                   {"warn", log::Level::kWarn},
                                   {"error", log::Level::kError}})),
      field(talk, "log-format", "logFormat", "FORMAT", "Write each event as a line of text or of json.", "",
            choice(&C::log_format, {{"text", log::Format::kText}, {"json", log::Format::kJson}})),

      field(pods, "cluster-dns", "clusterDNS", "IP[,…]",
            "Name servers of pods whose dnsPolicy is ClusterFirst. Without any, those use the node's.", "none",
            list(&C::cluster_dns, parse_servers)),
      field(pods, "cluster-domain", "clusterDomain", "DOMAIN",
            "The cluster's domain: in the search lines of those pods, and in pods' full names.", "",
            text(&C::cluster_domain, check_domain)),
      field(pods, "resolv-conf", "resolvConf", "FILE",
            "Take the node's name servers from here, for pods whose dnsPolicy is Default, and search domains for those "
            "of ClusterFirst, too. Empty: there are none.",
            "", optional_text(&C::resolv_conf, check_absolute_or_none)),
      field(pods, "", "logRoot", "DIR", "Containers' logs are written below this folder.", "",
            text(&C::log_root, check_absolute)),
      field(pods, "", "drainDelay", "DURATION",
            "How long a pod that ends keeps its connections, once no new one reaches it, before it gets SIGTERM.", "",
            duration(&C::drain_delay)),
      field(pods, "", "shutdownTimeout", "DURATION", "How long the agent's own orderly stop may take.", "",
            duration(&C::shutdown_timeout)),
  };
}

}  // namespace

const std::vector<Field>& fields() {
  static const std::vector<Field> all = make_fields();
  return all;
}

}  // namespace fairlead::config
