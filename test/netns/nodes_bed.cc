// SPDX-License-Identifier: Apache-2.0
#include "test/netns/nodes_bed.h"

#include <fcntl.h>
#include <sched.h>

#include <algorithm>
#include <fstream>
#include <iterator>

#include "agent/base/atomic_file.h"

namespace fairlead::testkit {
namespace {

constexpr auto kStartTime = std::chrono::seconds(300);  // loading programs is slow where every core is taken

const char* kGateways[] = {"192.0.2.1", "2001:db8::1"};
const char* kWorld[] = {"198.51.100.2", "2001:db8:ff::2"};

std::size_t index_of(Family family) {
  return family == Family::kV4 ? 0 : 1;
}

IpAddress parsed(const std::string& text) {
  return IpAddress::parse(text).value();
}

std::string joined(const auto& values) {
  std::string all;
  for (const auto& value : values) all += (all.empty() ? "" : ",") + value.str();
  return all;
}

const IpAddress& one_of(const std::vector<IpAddress>& addresses, Family family) {
  return *std::ranges::find(addresses, family, &IpAddress::family);
}

}  // namespace

Result<> in_netns(const PodNetns& netns, const std::string& line) {
  const CommandResult done = run_command(fmt::format("nsenter --net={} sh -c '{}'", netns.path(), line));
  if (done.code != 0) return fail(Code::kSystem, "{}: {}", line, done.output);
  return {};
}

const IpAddress& BedPod::address(Family family) const {
  return one_of(addresses_, family);
}

Result<> BedPod::serve(std::uint16_t port) {
  std::optional<Result<Observer>> started;
  netns_.run([&] { started.emplace(Observer::start(port)); });
  FL_LET(Observer observer, std::move(*started));
  observer_.emplace(std::move(observer));
  return {};
}

BedNode::BedNode(NodesBed& bed, unsigned number) : bed_(bed), number_(number), name_(fmt::format("n{}", number)) {
  for (const Family family : bed_.options_.underlay) {
    addresses_.push_back(parsed(fmt::format("{}{}", family == Family::kV4 ? "192.0.2.1" : "2001:db8::1", number)));
  }
}

BedNode::~BedNode() {
  agent_.kill();
  std::error_code ignored;
  std::filesystem::remove_all(bpf_root(), ignored);
  std::filesystem::remove_all(fmt::format("{}/{}", folder(), name_), ignored);
}

const IpAddress& BedNode::address(Family family) const {
  return one_of(addresses_, family);
}

Cidr BedNode::pod_range(Family family) const {
  return Cidr::parse(fmt::format(fmt::runtime(family == Family::kV4 ? "10.244.{}.0/24" : "fd00:244:{}::/64"), number_))
      .value();
}

std::string BedNode::run_dir() const {
  return fmt::format("{}/{}/run", folder(), name_);
}

std::string BedNode::bpf_root() const {
  return bpffs() + "/" + name_;
}

std::string BedNode::manifest() const {
  std::string ranges;
  for (const Family family : bed_.options_.families) {
    ranges += fmt::format("{}\"{}\"", ranges.empty() ? "" : ", ", pod_range(family));
  }
  std::string addresses;
  for (const IpAddress& address : addresses_) {
    addresses += fmt::format("{}{{type: InternalIP, address: \"{}\"}}", addresses.empty() ? "" : ", ", address);
  }
  return fmt::format(
      "apiVersion: v1\nkind: Node\nmetadata: {{name: {}}}\nspec: {{podCIDRs: [{}]}}\nstatus: {{addresses: [{}]}}\n",
      name_, ranges, addresses);
}

Result<> BedNode::make_namespace() {
  FL_LET(PodNetns made, PodNetns::make(name_));
  netns_.emplace(std::move(made));
  // A machine keeps its MAC over a reboot, and who knows it need not ask again.
  FL_TRY(in_netns(bed_.lan(), fmt::format("ip link add port{0} type veth peer name eth0 address 02:00:c0:00:02:1{0} "
                                          "netns {1} && "
                                          "ip link set port{0} master br0 && ip link set port{0} up",
                                          number_, netns_->path())));
  FL_TRY(in_netns(*netns_, "ip link set lo up && ip link set eth0 up"));
  for (const IpAddress& address : addresses_) {
    const bool v4 = address.is_v4();
    FL_TRY(in_netns(*netns_,
                    fmt::format("ip address add {}/{} dev eth0 {} && ip route add {} via {}", address, v4 ? 24 : 64,
                                v4 ? "" : "nodad", v4 ? "default" : "::/0", kGateways[index_of(address.family())])));
  }
  std::optional<Result<Observer>> started;
  netns_->run([&] { started.emplace(Observer::start(kNodePort)); });
  FL_LET(Observer observer, std::move(*started));
  observer_.emplace(std::move(observer));
  return {};
}

std::vector<std::string> BedNode::command_line() const {
  const std::string own = fmt::format("{}/{}", folder(), name_);
  std::vector<std::string> words{FAIRLEAD_AGENT,
                                 "--mode=dataplane",
                                 "--node-name=" + name_,
                                 "--node-ip=" + joined(addresses_),
                                 "--service-cidr=10.96.0.0/16,fd00:96::/112",
                                 "--bpf-root=" + bpf_root(),
                                 "--cgroup-root=" + bed_.cgroup().path(),
                                 "--state-dir=" + own + "/state",
                                 "--run-dir=" + run_dir(),
                                 "--metrics-bind-address=off",
                                 "--healthz-bind-address=off"};
  words.insert(words.end(), bed_.source_.begin(), bed_.source_.end());
  words.insert(words.end(), bed_.options_.flags.begin(), bed_.options_.flags.end());
  return words;
}

Result<> BedNode::start() {
  FL_TRY(launch());
  return await_synced();
}

Result<> BedNode::launch() {
  std::filesystem::create_directories(run_dir());
  const UniqueFd inside(open(netns_->path().c_str(), O_RDONLY | O_CLOEXEC));
  FL_LET(agent_, Process::start(command_line(), fmt::format("{}/{}/agent.log", folder(), name_),
                                [fd = inside.get()] { setns(fd, CLONE_NEWNET); }));
  return {};
}

Result<> BedNode::await_synced() {
  const bool up = eventually([&] { return synced() || !agent_.running(); }, kStartTime);
  if (up && agent_.running()) return {};
  return fail(Code::kTimeout, "the agent of {} is not synced: {}\n{}", name_, ctl("status").dump(), log());
}

Result<> BedNode::reboot() {
  agent_.kill();
  observer_.reset();
  netns_.reset();
  (void)in_netns(bed_.lan(), fmt::format("ip link delete port{}", number_));
  std::error_code ignored;
  std::filesystem::remove_all(bpf_root(), ignored);
  std::filesystem::remove_all(run_dir(), ignored);
  return make_namespace();
}

Result<Json> BedNode::plugin(const std::string& command, const std::string& container, const std::string& netns,
                             const std::string& ns, const std::string& pod, const std::string& uid,
                             const Json& runtime_config) const {
  const std::string input = fmt::format("{}/{}/{}.stdin", folder(), name_, container);
  std::ofstream(input) << Json{{"cniVersion", "1.0.0"},
                               {"name", "fairlead"},
                               {"type", "fairlead-cni"},
                               {"runDir", run_dir()},
                               {"runtimeConfig", runtime_config}};
  const CommandResult done =
      run_command(fmt::format("CNI_COMMAND={} CNI_CONTAINERID={} CNI_NETNS={} CNI_IFNAME=eth0 CNI_PATH=/ "
                              "CNI_ARGS='IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_UID={}' {} <{}",
                              command, container, netns, ns, pod, uid, FAIRLEAD_CNI, input));
  if (done.code != 0) return fail(Code::kSystem, "CNI {} of {}: {}", command, pod, done.output);
  return Json::parse(done.output, nullptr, false);
}

Result<std::vector<IpAddress>> BedNode::attach(const PodNetns& netns, const std::string& ns, const std::string& name,
                                               const std::string& uid, const Json& runtime_config) {
  FL_LET(const Json result,
         plugin("ADD", fmt::format("{}-{}", name_, name), netns.path(), ns, name, uid, runtime_config));
  std::vector<IpAddress> addresses;
  for (const Json& ip : result.at("ips")) {
    FL_LET(const Cidr address, Cidr::parse(ip.at("address").get<std::string>()));
    addresses.push_back(address.base());
  }
  return addresses;
}

Result<BedPod> BedNode::add_pod(const std::string& name, const Json& runtime_config) {
  const std::string container = fmt::format("{}-{}", name_, name);
  FL_LET(PodNetns netns, PodNetns::make(container));
  FL_LET(std::vector<IpAddress> addresses, attach(netns, "default", name, "uid-" + container, runtime_config));
  BedPod pod(std::move(netns), container, std::move(addresses));
  FL_TRY(pod.serve(kPodPort));
  return pod;
}

Result<> BedNode::delete_pod(const BedPod& pod) {
  FL_TRY(
      plugin("DEL", pod.container(), pod.netns().path(), "default", "pod", "uid-" + pod.container(), Json::object()));
  return {};
}

Json BedNode::ctl(const std::string& command) const {
  const CommandResult done =
      run_command(fmt::format("{} --run-dir {} -o json {} 2>/dev/null", FAIRLEAD_CTL, run_dir(), command));
  Json answer = Json::parse(done.output, nullptr, false);
  return answer.is_discarded() ? Json::object() : answer;
}

CommandResult BedNode::ip(const std::string& line) const {
  return run_command(fmt::format("nsenter --net={} ip {}", netns_->path(), line));
}

std::string BedNode::log() const {
  return run_command(fmt::format("tail -n 40 {}/{}/agent.log", folder(), name_)).output;
}

Result<std::unique_ptr<NodesBed>> NodesBed::make(BedOptions options) {
  std::unique_ptr<NodesBed> bed(new NodesBed(std::move(options)));
  const CommandResult root = run_command("awk '$3 == \"cgroup2\" {print $2; exit}' /proc/self/mounts | tr -d '\\n'");
  FL_LET(TestCgroup cgroup, TestCgroup::make(root.output, bed->options_.name));
  bed->cgroup_.emplace(std::move(cgroup));
  std::filesystem::create_directories(bed->manifests());
  FL_TRY(bed->make_lan());
  for (unsigned i = 1; i <= bed->options_.nodes; ++i) {
    bed->nodes_.push_back(std::make_unique<BedNode>(*bed, i));
    FL_TRY(bed->nodes_.back()->make_namespace());
    bed->apply(fmt::format("n{}.yaml", i), bed->nodes_.back()->manifest());
  }
  bed->source_ = {"--manifests=" + bed->manifests()};
  if (bed->options_.source) {
    FL_LET(bed->source_, bed->options_.source(*bed));
  }
  for (const auto& node : bed->nodes_) FL_TRY(node->launch());
  for (const auto& node : bed->nodes_) FL_TRY(node->await_synced());
  return bed;
}

NodesBed::~NodesBed() {
  std::error_code ignored;
  std::filesystem::remove_all(manifests(), ignored);
}

Result<> NodesBed::make_lan() {
  FL_LET(PodNetns lan, PodNetns::make("lan"));
  lan_.emplace(std::move(lan));
  FL_LET(PodNetns world, PodNetns::make("world"));
  world_.emplace(std::move(world), "world", std::vector{parsed(kWorld[0]), parsed(kWorld[1])});
  FL_TRY(in_netns(*lan_,
                  fmt::format("ip link set lo up && ip link add br0 type bridge && ip link set br0 up && "
                              "ip link add wan0 type veth peer name eth0 netns {} && ip link set wan0 up && "
                              "ip address add 192.0.2.1/24 dev br0 && ip address add 2001:db8::1/64 dev br0 nodad && "
                              "ip address add 198.51.100.1/24 dev wan0 && "
                              "ip address add 2001:db8:ff::1/64 dev wan0 nodad && "
                              "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1",
                              world_->netns().path())));
  FL_TRY(in_netns(world_->netns(),
                  "ip link set lo up && ip link set eth0 up && ip address add 198.51.100.2/24 dev eth0 && "
                  "ip address add 2001:db8:ff::2/64 dev eth0 nodad && ip route add default via 198.51.100.1 && "
                  "ip route add ::/0 via 2001:db8:ff::1"));
  return world_->serve(kPodPort);
}

void NodesBed::apply(const std::string& file, const std::string& text) const {
  const std::string draft = folder() + "/draft";
  std::ofstream(draft) << text;
  std::filesystem::rename(draft, manifests() + "/" + file);
}

void NodesBed::withdraw(const std::string& file) const {
  std::filesystem::remove(manifests() + "/" + file);
}

}  // namespace fairlead::testkit
