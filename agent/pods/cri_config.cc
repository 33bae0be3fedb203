// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/cri_config.h"

#include <algorithm>
#include <charconv>

#include "agent/kube/codec/quantity.h"
#include "agent/pods/host_ports.h"
#include "agent/pods/plan.h"
#include "agent/pods/pod_names.h"
#include "agent/pods/status.h"

namespace fairlead::pods {
namespace {

constexpr std::int64_t kCpuPeriodUs = 100'000;
constexpr std::int64_t kMinCpuQuotaUs = 1'000;
constexpr std::int64_t kMinCpuShares = 2;
constexpr std::int64_t kMaxCpuShares = 262'144;
constexpr std::int64_t kGuaranteedOom = -997;
constexpr std::int64_t kBestEffortOom = 1000;
constexpr std::int64_t kDefaultGraceSeconds = 30;

WallTime wall(std::int64_t ns) {
  return WallTime(std::chrono::duration_cast<WallTime::duration>(std::chrono::nanoseconds(ns)));
}

template <class Map>
std::string value_of(const Map& map, const std::string& key) {
  const auto at = map.find(key);
  return at == map.end() ? "" : at->second;
}

std::optional<kube::Quantity> amount(const google::protobuf::Map<std::string, k8s::Quantity>& map,
                                     const std::string& name) {
  const auto at = map.find(name);
  if (at == map.end()) return {};
  const auto parsed = kube::Quantity::parse(at->second.string());
  return parsed ? std::optional(*parsed) : std::nullopt;
}

void label(google::protobuf::Map<std::string, std::string>& labels, const NodeFacts& node, const k8s::Pod& pod) {
  labels[kPodNameLabel] = pod.metadata().name();
  labels[kPodNamespaceLabel] = pod.metadata().namespace_();
  labels[kPodUidLabel] = pod.metadata().uid();
  labels[kOwnerLabel] = node.owner;
}

// Every namespace that is not the pod's own is named: 0 in CRI means POD, also where it was left out.
void namespaces(api::NamespaceOption& option, const k8s::Pod& pod) {
  const auto& spec = pod.spec();
  option.set_network(spec.hostnetwork() ? api::NODE : api::POD);
  option.set_pid(spec.hostpid() ? api::NODE : spec.shareprocessnamespace() ? api::POD : api::CONTAINER);
  option.set_ipc(spec.hostipc() ? api::NODE : api::POD);
}

api::SecurityProfile::ProfileType seccomp_type(const k8s::SeccompProfile& profile) {
  return profile.type() == "RuntimeDefault" ? api::SecurityProfile::RuntimeDefault : api::SecurityProfile::Unconfined;
}

// The pod's groups, for sandbox and containers alike.
void supplemental_groups(google::protobuf::RepeatedField<std::int64_t>& groups, const k8s::Pod& pod) {
  const auto& shared = pod.spec().securitycontext();
  if (shared.has_fsgroup()) groups.Add(shared.fsgroup());
  groups.Add(shared.supplementalgroups().begin(), shared.supplementalgroups().end());
}

bool privileged(const google::protobuf::RepeatedPtrField<k8s::Container>& containers) {
  return std::ranges::any_of(containers, [](const auto& one) { return one.securitycontext().privileged(); });
}

api::MountPropagation propagation(const std::string& mode) {
  if (mode == "Bidirectional") return api::PROPAGATION_BIDIRECTIONAL;
  return mode == "HostToContainer" ? api::PROPAGATION_HOST_TO_CONTAINER : api::PROPAGATION_PRIVATE;
}

api::Protocol cri_protocol(Protocol protocol) {
  return protocol == Protocol::kUdp ? api::UDP : protocol == Protocol::kSctp ? api::SCTP : api::TCP;
}

// Ports of the node that lead to the pod; on the host's network a container's ports are the node's already.
void port_mappings(api::PodSandboxConfig& config, const k8s::PodSpec& spec) {
  if (spec.hostnetwork()) return;
  for (const HostPort& port : host_ports(spec)) {
    auto& mapping = *config.add_port_mappings();
    mapping.set_protocol(cri_protocol(port.protocol));
    mapping.set_container_port(port.container_port);
    mapping.set_host_port(port.port);
    mapping.set_host_ip(port.ip);
  }
}

Result<> add_mounts(const ContainerInput& in, api::ContainerConfig& config) {
  bool own_hosts = false;
  if (in.mount_paths.size() != static_cast<std::size_t>(in.container.volumemounts_size())) {
    return fail(Code::kInvalid, "container {}: {} paths for {} volume mounts", in.container.name(),
                in.mount_paths.size(), in.container.volumemounts_size());
  }
  for (int i = 0; i < in.container.volumemounts_size(); ++i) {
    const auto& mount = in.container.volumemounts(i);
    auto& out = *config.add_mounts();
    out.set_container_path(mount.mountpath());
    out.set_host_path(in.mount_paths[static_cast<std::size_t>(i)]);
    out.set_readonly(mount.readonly());
    out.set_propagation(propagation(mount.mountpropagation()));
    own_hosts |= mount.mountpath() == "/etc/hosts";
  }
  const std::string& uid = in.pod.metadata().uid();
  if (!own_hosts) {
    auto& hosts = *config.add_mounts();
    hosts.set_container_path("/etc/hosts");
    hosts.set_host_path(hosts_path(in.node, uid));
  }
  if (!in.container.terminationmessagepath().empty()) {
    auto& message = *config.add_mounts();
    message.set_container_path(in.container.terminationmessagepath());
    message.set_host_path(message_path(in.node, uid, in.container.name(), in.attempt));
  }
  return {};
}

// What lists and statuses both tell.
SandboxView view_of_sandbox(const auto& sandbox) {
  return {.id = sandbox.id(),
          .attempt = sandbox.metadata().attempt(),
          .ready = sandbox.state() == api::SANDBOX_READY,
          .created = wall(sandbox.created_at()),
          .ips = {}};
}

RunState run_state(api::ContainerState state) {
  switch (state) {
    case api::CONTAINER_CREATED:
      return RunState::kCreated;
    case api::CONTAINER_RUNNING:
      return RunState::kRunning;
    case api::CONTAINER_EXITED:
      return RunState::kExited;
    default:
      return RunState::kUnknown;
  }
}

ContainerView view_of_container(const auto& container, const std::string& sandbox_id) {
  ContainerView view;
  view.id = container.id();
  view.name = value_of(container.labels(), kContainerNameLabel);
  view.sandbox_id = sandbox_id;
  view.attempt = container.metadata().attempt();
  view.state = run_state(container.state());
  view.hash = value_of(container.annotations(), kHashAnnotation);
  const std::string streak = value_of(container.annotations(), kStreakAnnotation);
  std::from_chars(streak.data(), streak.data() + streak.size(), view.streak);
  view.created = wall(container.created_at());
  const std::string& image = container.image().user_specified_image();
  view.image = image.empty() ? value_of(container.annotations(), kImageAnnotation) : image;
  view.image_id = container.image_ref();
  return view;
}

}  // namespace

std::string cgroup_parent(const NodeFacts& node, const k8s::Pod& pod) {
  const std::string qos = qos_class(pod.spec());
  const std::string tier = qos == "BestEffort" ? "/besteffort" : qos == "Burstable" ? "/burstable" : "";
  return node.cgroup_prefix + "/kubepods" + tier + "/pod" + pod.metadata().uid();
}

std::string log_directory(const NodeFacts& node, const k8s::Pod& pod) {
  return node.log_root + "/" + pod.metadata().namespace_() + "_" + pod.metadata().name() + "_" + pod.metadata().uid();
}

std::string pod_dir(const NodeFacts& node, const std::string& uid) {
  return node.pods_dir + "/" + uid;
}

std::string ending_mark(const NodeFacts& node, const std::string& uid) {
  return pod_dir(node, uid) + "/ending";
}

std::string hosts_path(const NodeFacts& node, const std::string& uid) {
  return pod_dir(node, uid) + "/etc-hosts";
}

std::string message_path(const NodeFacts& node, const std::string& uid, const std::string& container,
                         std::uint32_t attempt) {
  return pod_dir(node, uid) + "/containers/" + container + "/" + std::to_string(attempt);
}

Result<api::PodSandboxConfig> sandbox_config(const NodeFacts& node, const k8s::Pod& pod, std::uint32_t attempt,
                                             const Resolver& resolver) {
  api::PodSandboxConfig config;
  auto& metadata = *config.mutable_metadata();
  metadata.set_name(pod.metadata().name());
  metadata.set_namespace_(pod.metadata().namespace_());
  metadata.set_uid(pod.metadata().uid());
  metadata.set_attempt(attempt);
  for (const auto& [key, value] : pod.metadata().labels()) (*config.mutable_labels())[key] = value;
  for (const auto& [key, value] : pod.metadata().annotations()) (*config.mutable_annotations())[key] = value;
  label(*config.mutable_labels(), node, pod);
  if (!pod.spec().hostnetwork()) {
    FL_LET(const std::string name, kernel_host_name(pod, node.dns.cluster_domain));
    config.set_hostname(name);
  }
  config.set_log_directory(log_directory(node, pod));
  auto& dns = *config.mutable_dns_config();
  dns.mutable_servers()->Assign(resolver.servers.begin(), resolver.servers.end());
  dns.mutable_searches()->Assign(resolver.searches.begin(), resolver.searches.end());
  dns.mutable_options()->Assign(resolver.options.begin(), resolver.options.end());
  port_mappings(config, pod.spec());
  auto& linux = *config.mutable_linux();
  linux.set_cgroup_parent(cgroup_parent(node, pod));
  auto& security = *linux.mutable_security_context();
  namespaces(*security.mutable_namespace_options(), pod);
  security.mutable_seccomp()->set_profile_type(api::SecurityProfile::RuntimeDefault);  // the pause process
  const auto& shared = pod.spec().securitycontext();
  if (shared.has_runasuser()) security.mutable_run_as_user()->set_value(shared.runasuser());
  if (shared.has_runasuser() && shared.has_runasgroup()) {
    security.mutable_run_as_group()->set_value(shared.runasgroup());
  }
  supplemental_groups(*security.mutable_supplemental_groups(), pod);
  security.set_privileged(privileged(pod.spec().containers()) || privileged(pod.spec().initcontainers()));
  return config;
}

Result<api::ContainerConfig> container_config(const ContainerInput& in) {
  api::ContainerConfig config;
  config.mutable_metadata()->set_name(in.container.name());
  config.mutable_metadata()->set_attempt(in.attempt);
  config.mutable_image()->set_image(in.image.id());
  config.mutable_image()->set_user_specified_image(in.container.image());
  const std::map<std::string, std::string> values(in.env.begin(), in.env.end());
  for (const auto& word : in.container.command()) config.add_command(expand(word, values));
  for (const auto& word : in.container.args()) config.add_args(expand(word, values));
  config.set_working_dir(in.container.workingdir());
  for (const auto& [name, value] : in.env) {
    auto& env = *config.add_envs();
    env.set_key(name);
    env.set_value(value);
  }
  FL_TRY(add_mounts(in, config));
  label(*config.mutable_labels(), in.node, in.pod);
  (*config.mutable_labels())[kContainerNameLabel] = in.container.name();
  auto& notes = *config.mutable_annotations();
  notes[kHashAnnotation] = container_hash(in.container);
  notes[kRestartCountAnnotation] = std::to_string(in.attempt);
  notes[kMessagePathAnnotation] = in.container.terminationmessagepath();
  notes[kMessagePolicyAnnotation] = in.container.terminationmessagepolicy();
  notes[kPodGraceAnnotation] =
      std::to_string(in.pod.spec().has_terminationgraceperiodseconds() ? in.pod.spec().terminationgraceperiodseconds()
                                                                       : kDefaultGraceSeconds);
  notes[kStreakAnnotation] = std::to_string(in.streak);
  notes[kImageAnnotation] = in.container.image();
  config.set_log_path(in.container.name() + "/" + std::to_string(in.attempt) + ".log");
  config.set_stdin(in.container.stdin());
  config.set_tty(in.container.tty());
  auto& linux = *config.mutable_linux();
  *linux.mutable_resources() = container_resources(in.pod, in.container, in.node.memory_bytes);
  *linux.mutable_security_context() = container_security(in.pod, in.container, in.image);
  return config;
}

api::LinuxContainerSecurityContext container_security(const k8s::Pod& pod, const k8s::Container& container,
                                                      const api::Image& image) {
  api::LinuxContainerSecurityContext out;
  namespaces(*out.mutable_namespace_options(), pod);
  const auto& own = container.securitycontext();
  const auto& shared = pod.spec().securitycontext();
  if (own.has_runasuser() || shared.has_runasuser()) {
    out.mutable_run_as_user()->set_value(own.has_runasuser() ? own.runasuser() : shared.runasuser());
  }
  if (own.has_runasgroup() || shared.has_runasgroup()) {
    out.mutable_run_as_group()->set_value(own.has_runasgroup() ? own.runasgroup() : shared.runasgroup());
  }
  if (out.has_run_as_group() && !out.has_run_as_user()) {  // runtimes take no group without a user: the image's
    if (image.username().empty()) {
      out.mutable_run_as_user()->set_value(image.uid().value());
    } else {
      out.set_run_as_username(image.username());
    }
  }
  supplemental_groups(*out.mutable_supplemental_groups(), pod);
  out.set_privileged(own.privileged());
  out.set_readonly_rootfs(own.readonlyrootfilesystem());
  out.set_no_new_privs(own.has_allowprivilegeescalation() && !own.allowprivilegeescalation());
  if (own.has_capabilities()) {
    auto& capabilities = *out.mutable_capabilities();
    for (const auto& name : own.capabilities().add()) capabilities.add_add_capabilities(name);
    for (const auto& name : own.capabilities().drop()) capabilities.add_drop_capabilities(name);
  }
  out.mutable_seccomp()->set_profile_type(
      own.privileged() ? api::SecurityProfile::Unconfined
                       : seccomp_type(own.has_seccompprofile() ? own.seccompprofile() : shared.seccompprofile()));
  if (own.privileged()) return out;
  for (const auto* path :
       {"/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
        "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap"}) {
    out.add_masked_paths(path);
  }
  for (const auto* path : {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}) {
    out.add_readonly_paths(path);
  }
  return out;
}

api::LinuxContainerResources container_resources(const k8s::Pod& pod, const k8s::Container& container,
                                                 std::int64_t node_memory_bytes) {
  api::LinuxContainerResources out;
  const auto& limits = container.resources().limits();
  const auto& requests = container.resources().requests();
  const auto cpu_limit = amount(limits, "cpu");
  const auto cpu_request = amount(requests, "cpu");
  const std::int64_t milli = cpu_request ? cpu_request->milli() : cpu_limit ? cpu_limit->milli() : 0;
  out.set_cpu_shares(std::clamp(milli * 1024 / 1000, kMinCpuShares, kMaxCpuShares));
  if (cpu_limit && cpu_limit->milli() > 0) {
    out.set_cpu_period(kCpuPeriodUs);
    out.set_cpu_quota(std::max(cpu_limit->milli() * kCpuPeriodUs / 1000, kMinCpuQuotaUs));
  }
  const auto memory_limit = amount(limits, "memory");
  if (memory_limit) {
    out.set_memory_limit_in_bytes(memory_limit->units());
    out.set_memory_swap_limit_in_bytes(memory_limit->units());
  }
  const std::string qos = qos_class(pod.spec());
  if (qos == "Guaranteed") {
    out.set_oom_score_adj(kGuaranteedOom);
  } else if (qos == "BestEffort" || node_memory_bytes <= 0) {
    out.set_oom_score_adj(kBestEffortOom);
  } else {
    // The more of the node's memory it asked for, the later it is killed; always after what asked for nothing.
    const auto request = amount(requests, "memory");
    const std::int64_t bytes = request ? request->units() : memory_limit ? memory_limit->units() : 0;
    const auto adjust = static_cast<std::int64_t>(1000 - static_cast<__int128>(1000) * bytes / node_memory_bytes);
    out.set_oom_score_adj(std::clamp<std::int64_t>(adjust, 1000 + kGuaranteedOom, kBestEffortOom - 1));
  }
  return out;
}

SandboxView sandbox_view(const api::PodSandbox& sandbox) {
  return view_of_sandbox(sandbox);
}

SandboxView sandbox_view(const api::PodSandboxStatus& status) {
  SandboxView view = view_of_sandbox(status);
  if (auto ip = IpAddress::parse(status.network().ip())) view.ips.push_back(*ip);
  for (const auto& more : status.network().additional_ips()) {
    if (auto ip = IpAddress::parse(more.ip())) view.ips.push_back(*ip);
  }
  return view;
}

ContainerView container_view(const api::Container& container) {
  return view_of_container(container, container.pod_sandbox_id());
}

ContainerView container_view(const api::ContainerStatus& status, const std::string& sandbox_id) {
  ContainerView view = view_of_container(status, sandbox_id);
  view.started = wall(status.started_at());
  view.finished = wall(status.finished_at());
  view.exit_code = status.exit_code();
  view.reason = status.reason();
  view.message = status.message();
  return view;
}

PodRuntimeView pod_view(const api::ContainerEventResponse& event) {
  PodRuntimeView view;
  const api::PodSandboxStatus& sandbox = event.pod_sandbox_status();
  view.sandboxes.push_back(sandbox_view(sandbox));
  for (const auto& status : event.containers_statuses()) {
    view.containers.push_back(container_view(status, sandbox.id()));
  }
  return view;
}

}  // namespace fairlead::pods
