// SPDX-License-Identifier: Apache-2.0
#include "bench/pods/kubelet.h"

#include <fstream>

#include "bench/lib/programs.h"
#include "test/kit/own_node.h"

namespace fairlead::bench {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

constexpr auto kBridge = R"({"cniVersion": "1.0.0", "name": "bridge", "plugins": [
  {"type": "bridge", "bridge": "kubelet0", "isGateway": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.200.0.0/23"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]})";
constexpr auto kPlugins = "/usr/lib/cni";

// What kubelet needs on hybrid cgroups, and nothing that would make it slower.
constexpr auto kConfiguration = R"(apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: /{cgroup}
enforceNodeAllocatable: []
localStorageCapacityIsolation: false
containerRuntimeEndpoint: {endpoint}
address: 127.0.0.1
authentication: {{anonymous: {{enabled: true}}, webhook: {{enabled: false}}}}
authorization: {{mode: AlwaysAllow}}
maxPods: 250
registryPullQPS: 0
evictionHard: {{}}
)";

// kubelet wants its root in each hierarchy.
Result<> make_cgroups(const std::string& name) {
  for (const auto& hierarchy : fs::directory_iterator("/sys/fs/cgroup")) {
    std::error_code error;
    if (hierarchy.is_symlink() || !fs::exists(hierarchy.path() / "cgroup.procs")) continue;
    fs::create_directories(hierarchy.path() / name, error);
    if (error) return fail_errno(error.value(), "make cgroup " + (hierarchy.path() / name).string());
  }
  return must(
      fmt::format("cat /sys/fs/cgroup/cpuset/cpuset.cpus > /sys/fs/cgroup/cpuset/{0}/cpuset.cpus && "
                  "cat /sys/fs/cgroup/cpuset/cpuset.mems > /sys/fs/cgroup/cpuset/{0}/cpuset.mems",
                  name));
}

}  // namespace

Result<std::unique_ptr<Kubelet>> Kubelet::start(const fs::path& folder, const fs::path& containerd_bin,
                                                const testkit::ControlPlane& plane) {
  std::unique_ptr<Kubelet> kubelet(new Kubelet(folder));
  fs::create_directories(folder);
  FL_LET(auto containerd,
         testkit::Containerd::start({.folder = folder / "containerd", .netns = {}, .bin_folder = containerd_bin}));
  kubelet->containerd_ = std::make_unique<testkit::Containerd>(std::move(containerd));
  std::ofstream(kubelet->containerd_->cni_conf_dir() / "10-bridge.conflist") << kBridge;
  for (const char* plugin : {"bridge", "host-local", "loopback"}) {
    fs::copy(fs::path(kPlugins) / plugin, kubelet->containerd_->cni_bin_dir() / plugin);
  }
  FL_TRY(make_cgroups(testkit::node_cgroup()));
  std::ofstream(folder / "kubelet.yaml") << fmt::format(kConfiguration, fmt::arg("cgroup", testkit::node_cgroup()),
                                                        fmt::arg("endpoint", kubelet->containerd_->endpoint()));
  FL_LET(kubelet->process_,
         testkit::Process::start(
             {FAIRLEAD_GO_BIN "/peers", "kubelet", "--config", folder / "kubelet.yaml", "--kubeconfig",
              plane.node_kubeconfig(kNode), "--hostname-override", kNode, "--node-ip", testkit::kNodeV4, "--root-dir",
              folder / "root", "--cert-dir", folder / "pki", "--v", "1"},
             folder / "log"));
  const bool ready = testkit::eventually(
      [&] {
        return plane
                   .kubectl(fmt::format("get node {} -o jsonpath='{{.status.conditions[?(@.type==\"Ready\")].status}}'",
                                        kNode))
                   .output == "True";
      },
      60s);
  if (!ready) {
    return fail(Code::kTimeout, "kubelet is not ready: {}",
                testkit::run_command("tail -n 5 " + (folder / "log").string()).output);
  }
  return kubelet;
}

Kubelet::~Kubelet() {
  process_.stop();
  containerd_.reset();
  (void)testkit::run_command("ip link del kubelet0");
}

}  // namespace fairlead::bench
