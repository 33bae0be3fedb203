// SPDX-License-Identifier: Apache-2.0
#include "test/netns/policy_bed.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <fstream>

#include "bpf/abi/drop.h"

namespace fairlead::testkit {
namespace {

constexpr auto kApiAddress = "192.0.2.2";
constexpr auto kPolicies = "/apis/networking.k8s.io/v1/namespaces/";

std::pair<std::string, std::string> split(const std::string& key) {
  const std::size_t slash = key.find('/');
  return {key.substr(0, slash), key.substr(slash + 1)};
}

Result<> run(const std::string& line) {
  const CommandResult done = run_command(line);
  if (done.code != 0) return fail(Code::kSystem, "{}: {}", line, done.output);
  return {};
}

// A field of wire type 2.
std::string field(unsigned number, const std::string& bytes) {
  std::string out(1, static_cast<char>(number << 3 | 2));
  std::size_t size = bytes.size();
  for (; size >= 0x80; size >>= 7) out += static_cast<char>(0x80 | (size & 0x7f));
  return out + static_cast<char>(size) + bytes;
}

// "k8s\0" + runtime.Unknown {typeMeta = 1 {apiVersion = 1, kind = 2}, raw = 2}.
std::string wrapped(const std::string& version, const std::string& kind, const std::string& raw) {
  return std::string("k8s\0", 4) + field(1, field(1, version) + field(2, kind)) + field(2, raw);
}

std::uint32_t number_of(const std::string& reason) {
#define REASON_NUMBER(number, constant, name) \
  if (reason == name) return number;
  DROP_REASONS(REASON_NUMBER)
#undef REASON_NUMBER
  return 0;
}

}  // namespace

Result<std::unique_ptr<PolicyBed>> PolicyBed::make(const std::string& name, std::vector<std::string> flags) {
  std::unique_ptr<PolicyBed> made(new PolicyBed);
  FL_LET(made->bed_,
         NodesBed::make({.name = name,
                         .flags = std::move(flags),
                         .source = [&made](const NodesBed& bed) -> Result<std::vector<std::string>> {
                           FL_TRY(made->start_plane(bed));
                           return std::vector<std::string>{"--kubeconfig=" + made->plane_->admin_kubeconfig().string()};
                         }}));
  return made;
}

// The agents end before the server that they watch.
PolicyBed::~PolicyBed() {
  pods_.clear();
  bed_.reset();
  plane_.reset();
  (void)run_command("ip link delete api0");
  std::error_code ignored;
  std::filesystem::remove_all(folder() + "/plane", ignored);
}

Result<> PolicyBed::start_plane(const NodesBed& bed) {
  FL_TRY(
      run(fmt::format("ip link add api0 type veth peer name port-api netns {} && ip link set api0 up && "
                      "ip address add {}/24 dev api0",
                      bed.lan().path(), kApiAddress)));
  FL_TRY(in_netns(bed.lan(), "ip link set port-api master br0 && ip link set port-api up"));
  // Service accounts are a controller's to make; nobody here needs one.
  FL_LET(plane_, ControlPlane::start({.folder = folder() + "/plane",
                                      .binary = FAIRLEAD_GO_BIN "/k8s",
                                      .service_cidr = "10.96.0.0/16,fd00:96::/112",
                                      .address = kApiAddress,
                                      .without = {"ServiceAccount"}}));
  if (!eventually([&] { return plane_->get("/api/v1/namespaces/default").is_object(); })) {
    return fail(Code::kTimeout, "no namespace default");
  }
  const CommandResult nodes = plane_->kubectl("apply -f " + bed.manifests());
  if (nodes.code != 0) return fail(Code::kSystem, "nodes: {}", nodes.output);
  return {};
}

Result<Json> PolicyBed::send(const std::string& method, const std::string& path, const Json& body,
                             const std::string& type) {
  const auto answer = plane_->send(method, path, {"Content-Type: " + type}, body.is_null() ? "" : body.dump());
  if (answer.status / 100 != 2) return fail(Code::kSystem, "{} {}: {} {}", method, path, answer.status, answer.body);
  return Json::parse(answer.body, nullptr, false);
}

Result<> PolicyBed::create_namespace(const std::string& name, const Labels& labels) {
  FL_TRY(send("POST", "/api/v1/namespaces", {{"metadata", {{"name", name}, {"labels", labels}}}}));
  return {};
}

Result<> PolicyBed::set_namespace_labels(const std::string& name, const Labels& labels) {
  FL_LET(Json object, send("GET", "/api/v1/namespaces/" + name, nullptr));
  object["metadata"]["labels"] = labels;
  object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
  FL_TRY(send("PUT", "/api/v1/namespaces/" + name, object));
  return {};
}

Result<std::string> PolicyBed::create_pod(unsigned node, const std::string& key, const Labels& labels,
                                          const std::vector<NamedPort>& ports) {
  const auto [ns, name] = split(key);
  Json container{{"name", "main"}, {"image", "none"}};
  for (const NamedPort& port : ports) {
    container["ports"].push_back({{"name", port.name}, {"protocol", port.protocol}, {"containerPort", port.number}});
  }
  FL_LET(const Json made, send("POST", fmt::format("/api/v1/namespaces/{}/pods", ns),
                               {{"metadata", {{"name", name}, {"labels", labels}}},
                                {"spec",
                                 {{"nodeName", bed_->node(node).name()},
                                  {"containers", Json::array({container})},
                                  {"terminationGracePeriodSeconds", 0},
                                  {"automountServiceAccountToken", false}}}}));
  return made["metadata"]["uid"].get<std::string>();
}

Result<> PolicyBed::add_pod(unsigned node, const std::string& key, const Labels& labels, std::vector<NamedPort> ports) {
  FL_LET(const std::string uid, create_pod(node, key, labels, ports));
  FL_LET(PodNetns netns, PodNetns::make(fmt::format("n{}-{}", node, split(key).second)));
  return attach_pod(node, key, uid, std::move(netns));
}

Result<> PolicyBed::attach_pod(unsigned node, const std::string& key, const std::string& uid, PodNetns netns) {
  const auto [ns, name] = split(key);
  Result<std::vector<IpAddress>> addresses = fail(Code::kUnavailable, "not asked");
  // As a runtime does: again, until the agent knows of the pod and has its policy in the maps.
  eventually([&] {
    addresses = bed_->node(node).attach(netns, ns, name, uid);
    return addresses.has_value();
  });
  if (!addresses) return std::unexpected(addresses.error());
  BedPod& pod = *(pods_[key] = std::make_unique<BedPod>(std::move(netns), fmt::format("n{}-{}", node, name),
                                                        std::move(*addresses)));
  FL_TRY(pod.serve(kPodPort));
  Json ips = Json::array();
  for (const Family family : {Family::kV4, Family::kV6}) ips.push_back({{"ip", pod.address(family).str()}});
  FL_TRY(send("PATCH", fmt::format("/api/v1/namespaces/{}/pods/{}/status", ns, name),
              {{"status", {{"phase", "Running"}, {"podIP", ips[0]["ip"]}, {"podIPs", ips}}}},
              "application/merge-patch+json"));
  return {};
}

Result<> PolicyBed::set_labels(const std::string& key, const Labels& labels) {
  const auto [ns, name] = split(key);
  const Json patch = Json::array({{{"op", "replace"}, {"path", "/metadata/labels"}, {"value", labels}}});
  FL_TRY(send("PATCH", fmt::format("/api/v1/namespaces/{}/pods/{}", ns, name), patch, "application/json-patch+json"));
  return {};
}

Result<> PolicyBed::apply_policy(const std::string& key, const std::string& spec) {
  const auto [ns, name] = split(key);
  const std::string file = folder() + "/policy.yaml";
  std::ofstream(file) << fmt::format(
      "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {}, namespace: {}}}\nspec: {}\n", name,
      ns, spec);
  const CommandResult applied = plane_->kubectl("apply -f " + file);
  if (applied.code != 0) return fail(Code::kSystem, "{}: {}", key, applied.output);
  return {};
}

Result<> PolicyBed::put_policy(const std::string& key, const k8s::NetworkPolicy& policy) {
  const auto [ns, name] = split(key);
  const std::string path = fmt::format("{}{}/networkpolicies", kPolicies, ns);
  k8s::NetworkPolicy message = policy;
  std::string method = "POST", target = path;
  if (const Json known = plane_->get(path + "/" + name); known.is_object()) {
    message.mutable_metadata()->set_resourceversion(known["metadata"]["resourceVersion"].get<std::string>());
    method = "PUT";
    target += "/" + name;
  }
  const auto answer = plane_->send(method, target, {"Content-Type: application/vnd.kubernetes.protobuf"},
                                   wrapped("networking.k8s.io/v1", "NetworkPolicy", message.SerializeAsString()));
  if (answer.status / 100 != 2) return fail(Code::kSystem, "{} {}: {} {}", method, target, answer.status, answer.body);
  return {};
}

Result<> PolicyBed::delete_policy(const std::string& key) {
  const auto [ns, name] = split(key);
  FL_TRY(send("DELETE", fmt::format("{}{}/networkpolicies/{}", kPolicies, ns, name), nullptr));
  return {};
}

Result<> PolicyBed::add_service(const std::string& name, const std::vector<IpAddress>& addresses, std::uint16_t port,
                                const std::vector<std::string>& pods) {
  Json ports = Json::array();
  for (const char* protocol : {"TCP", "UDP"}) {
    ports.push_back({{"name", protocol == std::string("TCP") ? "stream" : "datagram"},
                     {"protocol", protocol},
                     {"port", port},
                     {"targetPort", kPodPort}});
  }
  Json ips = Json::array();
  for (const IpAddress& address : addresses) ips.push_back(address.str());
  FL_TRY(
      send("POST", "/api/v1/namespaces/default/services",
           {{"metadata", {{"name", name}}},
            {"spec",
             {{"clusterIP", ips[0]}, {"clusterIPs", ips}, {"ipFamilyPolicy", "RequireDualStack"}, {"ports", ports}}}}));
  for (const Family family : {Family::kV4, Family::kV6}) {
    Json endpoints = Json::array();
    for (const std::string& key : pods) {
      endpoints.push_back({{"addresses", {pod(key).address(family).str()}}, {"conditions", {{"ready", true}}}});
    }
    for (Json& each : ports) {
      each.erase("targetPort");
      each["port"] = kPodPort;
    }
    FL_TRY(send("POST", "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
                {{"metadata",
                  {{"name", fmt::format("{}-{}", name, family == Family::kV4 ? 4 : 6)},
                   {"labels", {{"kubernetes.io/service-name", name}}}}},
                 {"addressType", family == Family::kV4 ? "IPv4" : "IPv6"},
                 {"endpoints", endpoints},
                 {"ports", ports}}));
  }
  return {};
}

bool PolicyBed::says(const std::string& from, const std::string& to, const std::string& port, bool allowed) {
  // Each side is judged where its pod is.
  return eventually([&] {
    bool both = true;
    for (unsigned number = 1; number <= bed_->options().nodes; ++number) {
      const Json trace =
          bed_->node(number).ctl(fmt::format("policy trace --from {} --to {} --port {}", from, to, port));
      if (!trace.contains("allowed")) return false;
      both = both && trace["allowed"] == true;
    }
    return both == allowed;
  });
}

std::uint64_t PolicyBed::drops(unsigned node, const std::string& reason) const {
  const std::string path = fmt::format("{}/maps/pod_counters", bed_->node(node).bpf_root());
  const UniqueFd map(bpf_obj_get(path.c_str()));
  const std::uint32_t key = number_of(reason);
  std::vector<packet_counter> counters(static_cast<std::size_t>(libbpf_num_possible_cpus()));
  if (bpf_map_lookup_elem(map.get(), &key, counters.data()) != 0) return 0;
  std::uint64_t sum = 0;
  for (const packet_counter& each : counters) sum += each.packets;
  return sum;
}

}  // namespace fairlead::testkit
