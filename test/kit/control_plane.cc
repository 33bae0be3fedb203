// SPDX-License-Identifier: Apache-2.0
#include "test/kit/control_plane.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fstream>

namespace fairlead::testkit {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

constexpr const char* kAdminToken = "admin-token";

// A port that is free now; the few moments until it is used are ours alone in a namespace of the test's.
unsigned free_port() {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  bind(fd, reinterpret_cast<sockaddr*>(&address), size);
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  close(fd);
  return ntohs(address.sin_port);
}

std::string tail(const fs::path& log) {
  return run_command("tail -n 5 '" + log.string() + "'").output;
}

}  // namespace

Result<ControlPlane> ControlPlane::start(const Options& options) {
  ControlPlane plane;
  FL_TRY(plane.start_all(options));
  return plane;
}

Result<> ControlPlane::start_all(const Options& options) {
  folder_ = options.folder;
  binary_ = options.binary;
  service_cidr_ = options.service_cidr;
  fs::create_directories(folder_);
  etcd_port_ = free_port();
  peer_port_ = free_port();
  api_port_ = free_port();
  url_ = fmt::format("https://127.0.0.1:{}", api_port_);
  FL_TRY(write_keys());
  std::ofstream tokens(folder_ / "tokens.csv");
  tokens << kAdminToken << ",admin,admin,\"system:masters\"\n";
  write_kubeconfig("admin", kAdminToken);
  for (const char* node : {"node-a", "node-b"}) {
    tokens << node << "-token,system:node:" << node << "," << node << ",\"system:nodes\"\n";
    write_kubeconfig(node, std::string(node) + "-token");
  }
  tokens.close();

  const std::string client = fmt::format("http://127.0.0.1:{}", etcd_port_);
  const std::string peer = fmt::format("http://127.0.0.1:{}", peer_port_);
  FL_LET(etcd_, Process::start({binary_, "etcd", "--unsafe-no-fsync", "--data-dir", folder_ / "etcd",
                                "--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls",
                                peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default=" + peer,
                                "--log-level", "error"},
                               folder_ / "etcd.log"));
  FL_TRY(start_api_server());
  if (!options.controllers) return {};
  FL_LET(controller_manager_,
         Process::start({binary_, "kube-controller-manager", "--leader-elect=false", "--kubeconfig", admin_kubeconfig(),
                         "--service-account-private-key-file", folder_ / "sa.key", "--use-service-account-credentials",
                         "--root-ca-file", folder_ / "pki/apiserver.crt", "--secure-port=0"},
                        folder_ / "controller-manager.log"));
  FL_LET(scheduler_, Process::start({binary_, "kube-scheduler", "--leader-elect=false", "--kubeconfig",
                                     admin_kubeconfig(), "--secure-port=0"},
                                    folder_ / "scheduler.log"));
  return {};
}

Result<> ControlPlane::write_keys() const {
  const auto made =
      run_command(fmt::format("openssl genrsa -out {0}/sa.key 2048 && openssl rsa -in {0}/sa.key -pubout "
                              "-out {0}/sa.pub",
                              folder_.string()));
  if (made.code != 0) return fail(Code::kSystem, "openssl: {}", made.output);
  return {};
}

void ControlPlane::write_kubeconfig(const std::string& user, const std::string& token) const {
  std::ofstream(folder_ / (user + ".kubeconfig"))
      << "apiVersion: v1\nkind: Config\ncurrent-context: test\n"
      << "contexts: [{name: test, context: {cluster: test, user: test}}]\n"
      << "clusters: [{name: test, cluster: {server: '" << url_ << "', certificate-authority: '"
      << (folder_ / "pki/apiserver.crt").string() << "'}}]\n"
      << "users: [{name: test, user: {token: '" << token << "'}}]\n";
}

Result<> ControlPlane::start_api_server() {
  const std::string log = folder_ / "apiserver.log";
  FL_LET(api_server_,
         Process::start({binary_, "kube-apiserver", fmt::format("--etcd-servers=http://127.0.0.1:{}", etcd_port_),
                         "--bind-address=127.0.0.1", fmt::format("--secure-port={}", api_port_), "--cert-dir",
                         folder_ / "pki", "--token-auth-file", folder_ / "tokens.csv", "--authorization-mode=Node,RBAC",
                         "--enable-admission-plugins=NodeRestriction", "--service-cluster-ip-range", service_cidr_,
                         "--service-account-issuer=https://test", "--service-account-key-file", folder_ / "sa.pub",
                         "--service-account-signing-key-file", folder_ / "sa.key"},
                        log));
  const bool ready = eventually([&] { return kubectl("get --raw /readyz").code == 0 || !api_server_.running(); }, 90s);
  if (!ready || !api_server_.running()) return fail(Code::kUnavailable, "kube-apiserver does not start: {}", tail(log));
  return {};
}

CommandResult ControlPlane::kubectl(const std::string& args) const {
  return run_command("'" + binary_ + "' kubectl --kubeconfig '" + admin_kubeconfig().string() + "' " + args);
}

}  // namespace fairlead::testkit
