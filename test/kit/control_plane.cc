// SPDX-License-Identifier: Apache-2.0
#include "test/kit/control_plane.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iterator>

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
  address_ = options.address;
  for (const std::string& plugin : options.without) without_ += (without_.empty() ? "" : ",") + plugin;
  fs::create_directories(folder_);
  etcd_port_ = free_port();
  peer_port_ = free_port();
  api_port_ = free_port();
  url_ = fmt::format("https://{}:{}", address_, api_port_);
  FL_TRY(write_keys());
  std::ofstream tokens(folder_ / "tokens.csv");
  tokens << kAdminToken << ",admin,admin,\"system:masters\"\n";
  write_kubeconfig("admin", kAdminToken);
  for (const std::string& node : options.nodes) {
    tokens << node << "-token,system:node:" << node << "," << node << ",\"system:nodes\"\n";
    write_kubeconfig(node, node + "-token");
  }
  tokens.close();

  FL_TRY(start_etcd());
  FL_TRY(start_api_server());
  if (!options.controllers) return {};
  const std::vector<std::string> client_flags{"--leader-elect=false", "--secure-port=0",    "--kubeconfig",
                                              admin_kubeconfig(),     "--kube-api-qps=200", "--kube-api-burst=400"};
  std::vector<std::string> manager{binary_,
                                   "kube-controller-manager",
                                   "--service-account-private-key-file",
                                   folder_ / "sa.key",
                                   "--use-service-account-credentials",
                                   "--root-ca-file",
                                   folder_ / "pki/apiserver.crt"};
  manager.insert(manager.end(), client_flags.begin(), client_flags.end());
  if (!options.cluster_cidr.empty()) {
    manager.insert(manager.end(), {"--allocate-node-cidrs", "--cluster-cidr", options.cluster_cidr});
  }
  FL_LET(controller_manager_, Process::start(manager, folder_ / "controller-manager.log"));
  std::vector<std::string> scheduler{binary_, "kube-scheduler"};
  scheduler.insert(scheduler.end(), client_flags.begin(), client_flags.end());
  FL_LET(scheduler_, Process::start(scheduler, folder_ / "scheduler.log"));
  return {};
}

Result<> ControlPlane::write_keys() const {
  const auto made =
      run_command(fmt::format("openssl genrsa -out {0}/sa.key 2048 && openssl rsa -in {0}/sa.key -pubout "
                              "-out {0}/sa.pub && openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=clients "
                              "-keyout {0}/clients.key -out {0}/clients.crt",
                              folder_.string()));
  if (made.code != 0) return fail(Code::kSystem, "openssl: {}", made.output);
  return {};
}

Result<> ControlPlane::write_client_certificate(const std::string& prefix, const std::string& user,
                                                const std::string& group) const {
  const auto made = run_command(
      fmt::format("openssl req -newkey rsa:2048 -nodes -subj '/O={2}/CN={1}' -keyout {0}.key.new -out {0}.csr && "
                  "openssl x509 -req -in {0}.csr -CA {3}/clients.crt -CAkey {3}/clients.key -CAcreateserial "
                  "-out {0}.crt.new && mv {0}.key.new {0}.key && mv {0}.crt.new {0}.crt",
                  prefix, user, group, folder_.string()));
  if (made.code != 0) return fail(Code::kSystem, "openssl: {}", made.output);
  return {};
}

fs::path ControlPlane::write_kubeconfig(const std::string& user, const std::string& token,
                                        const std::string& server) const {
  const fs::path file = folder_ / (user + ".kubeconfig");
  std::ofstream(file) << "apiVersion: v1\nkind: Config\ncurrent-context: test\n"
                      << "contexts: [{name: test, context: {cluster: test, user: test}}]\n"
                      << "clusters: [{name: test, cluster: {server: '" << (server.empty() ? url_ : server)
                      << "', certificate-authority: '" << (folder_ / "pki/apiserver.crt").string() << "'}}]\n"
                      << "users: [{name: test, user: {token: '" << token << "'}}]\n";
  return file;
}

Result<> ControlPlane::start_etcd() {
  const std::string client = fmt::format("http://127.0.0.1:{}", etcd_port_);
  const std::string peer = fmt::format("http://127.0.0.1:{}", peer_port_);
  FL_LET(etcd_, Process::start({binary_, "etcd", "--unsafe-no-fsync", "--data-dir", folder_ / "etcd",
                                "--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls",
                                peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default=" + peer,
                                "--log-level", "error"},
                               folder_ / "etcd.log"));
  return {};
}

Result<> ControlPlane::forget_history() const {
  const auto ask = [this](const std::string& what, const std::string& body) -> Result<Json> {
    const auto ran = run_command(
        fmt::format("curl --silent --max-time 10 -d '{}' http://127.0.0.1:{}/v3/kv/{}", body, etcd_port_, what));
    const Json answer = Json::parse(ran.output, nullptr, false);
    if (!answer.is_object() || !answer.contains("header")) return fail(Code::kSystem, "etcd: {}: {}", what, ran.output);
    return answer;
  };
  FL_LET(const Json now, ask("range", R"({"key": "eA=="})"));
  FL_TRY(ask("compaction", fmt::format(R"({{"revision": "{}"}})", now["header"]["revision"].get<std::string>())));
  return {};
}

Result<> ControlPlane::start_api_server() {
  const std::string log = folder_ / "apiserver.log";
  std::vector<std::string> command{binary_,
                                   "kube-apiserver",
                                   fmt::format("--etcd-servers=http://127.0.0.1:{}", etcd_port_),
                                   "--bind-address=" + address_,
                                   fmt::format("--secure-port={}", api_port_),
                                   "--cert-dir",
                                   folder_ / "pki",
                                   "--token-auth-file",
                                   folder_ / "tokens.csv",
                                   "--client-ca-file",
                                   folder_ / "clients.crt",
                                   "--authorization-mode=Node,RBAC",
                                   "--enable-admission-plugins=NodeRestriction",
                                   "--service-cluster-ip-range",
                                   service_cidr_,
                                   "--service-account-issuer=https://test",
                                   "--service-account-key-file",
                                   folder_ / "sa.pub",
                                   "--service-account-signing-key-file",
                                   folder_ / "sa.key"};
  // A namespace without a default route must name it; a loopback's is not for advertising.
  if (!address_.starts_with("127.")) command.push_back("--advertise-address=" + address_);
  if (!without_.empty()) command.push_back("--disable-admission-plugins=" + without_);
  FL_LET(api_server_, Process::start(command, log));
  const bool ready = eventually([&] { return kubectl("get --raw /readyz").code == 0 || !api_server_.running(); }, 90s);
  if (!ready || !api_server_.running()) return fail(Code::kUnavailable, "kube-apiserver does not start: {}", tail(log));
  return {};
}

ControlPlane::Answer ControlPlane::send(const std::string& method, const std::string& path,
                                        const std::vector<std::string>& headers, const std::string& body) const {
  const fs::path answer_file = folder_ / "answer";
  std::string command = fmt::format(
      "curl --silent --max-time 10 --cacert '{}' -H 'Authorization: Bearer {}' -X {} -o '{}' -w '%{{http_code}}'",
      (folder_ / "pki/apiserver.crt").string(), kAdminToken, method, answer_file.string());
  for (const std::string& header : headers) command += fmt::format(" -H '{}'", header);
  if (!body.empty()) {
    std::ofstream(folder_ / "body") << body;
    command += fmt::format(" --data-binary '@{}'", (folder_ / "body").string());
  }
  fs::remove(answer_file);
  const auto ran = run_command(fmt::format("{} '{}{}'", command, url_, path));
  std::ifstream in(answer_file);
  return {std::atoi(ran.output.c_str()), {std::istreambuf_iterator<char>(in), {}}};
}

Json ControlPlane::get(const std::string& path) const {
  const Answer answer = send("GET", path);
  const Json json = Json::parse(answer.body, nullptr, false);
  return answer.status == 200 && json.is_object() ? json : Json();
}

CommandResult ControlPlane::kubectl_as(const std::string& token, const std::string& args) const {
  const std::string quoted = write_kubeconfig("someone", token).string();
  return run_command("'" + binary_ + "' kubectl --kubeconfig '" + quoted + "' " + args);
}

CommandResult ControlPlane::kubectl(const std::string& args) const {
  return run_command("'" + binary_ + "' kubectl --kubeconfig '" + admin_kubeconfig().string() + "' " + args);
}

}  // namespace fairlead::testkit
