// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/api/exec_plugin.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "agent/base/atomic_file.h"
#include "agent/kube/codec/base64.h"
#include "agent/kube/codec/time.h"

namespace fairlead::kube {
namespace {

using Json = nlohmann::json;

constexpr auto kPatience = std::chrono::minutes(1);
constexpr std::size_t kOutputBytes = 1U << 20;

// What the plugin may know:
// https://kubernetes.io/docs/reference/access-authn-authz/authentication/#input-and-output-formats
std::string exec_info(const ExecConfig& config, const ClusterAccess& access) {
  Json spec{{"interactive", false}};
  if (config.provide_cluster_info) {
    Json cluster{{"server", access.server}};
    if (access.insecure) cluster["insecure-skip-tls-verify"] = true;
    const std::string ca = access.ca_data.empty() ? read_file(access.ca_file).value_or("") : access.ca_data;
    if (!ca.empty()) cluster["certificate-authority-data"] = base64_encode(ca);
    spec["cluster"] = std::move(cluster);
  }
  return Json{{"apiVersion", config.api_version}, {"kind", "ExecCredential"}, {"spec", spec}}.dump();
}

// `environ` and the plugin's own, which win.
std::vector<std::string> environment(const ExecConfig& config, const std::string& info) {
  std::vector<std::string> all{"KUBERNETES_EXEC_INFO=" + info};
  const auto named = [&](std::string_view entry) {
    const std::string_view name = entry.substr(0, entry.find('='));
    if (name == "KUBERNETES_EXEC_INFO") return true;
    for (const auto& [own, value] : config.env) {
      if (own == name) return true;
    }
    return false;
  };
  for (const auto& [name, value] : config.env) all.push_back(name + "=" + value);
  for (char** entry = environ; *entry != nullptr; ++entry) {
    if (!named(*entry)) all.emplace_back(*entry);
  }
  return all;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> list;
  for (std::string& text : texts) list.push_back(text.data());
  list.push_back(nullptr);
  return list;
}

std::string text_at(const Json& object, const char* field) {
  const auto at = object.find(field);
  return at != object.end() && at->is_string() ? at->get<std::string>() : std::string();
}

}  // namespace

Result<ExecCredential> read_exec_credential(std::string_view text, const std::string& api_version) {
  const Json object = Json::parse(text, nullptr, false);
  if (!object.is_object()) return fail(Code::kInvalid, "what it printed is not a JSON object");
  if (text_at(object, "kind") != "ExecCredential") return fail(Code::kInvalid, "kind: want ExecCredential");
  if (text_at(object, "apiVersion") != api_version) return fail(Code::kInvalid, "apiVersion: want {}", api_version);
  const Json status = object.value("status", Json::object());
  if (!status.is_object()) return fail(Code::kInvalid, "status: want an object");
  ExecCredential read{
      {text_at(status, "token"), text_at(status, "clientCertificateData"), text_at(status, "clientKeyData")}, {}};
  const Credential& credential = read.credential;
  if (credential.cert_data.empty() != credential.key_data.empty()) {
    return fail(Code::kInvalid, "status: clientCertificateData and clientKeyData go together");
  }
  if (credential.token.empty() && credential.cert_data.empty()) {
    return fail(Code::kInvalid, "status: neither token nor clientCertificateData");
  }
  if (const std::string expires = text_at(status, "expirationTimestamp"); !expires.empty()) {
    const auto time = parse_time(expires);
    if (!time) return fail_with(time.error(), "status.expirationTimestamp");
    read.expires = WallTime(std::chrono::seconds(time->seconds));
  }
  return read;
}

ExecPlugin::ExecPlugin(Loop& loop, ExecConfig config, const ClusterAccess& access)
    : loop_(loop), config_(std::move(config)), info_(exec_info(config_, access)) {}

void ExecPlugin::run(std::function<void(Result<ExecCredential>)> done) {
  done_ = std::move(done);
  text_.clear();
  timed_out_ = false;
  if (auto started = spawn(); !started) {
    loop_.post(
        [done = std::exchange(done_, nullptr), error = std::move(started).error()] { done(std::unexpected(error)); });
    return;
  }
  readable_ = loop_.watch(output_.get(), Loop::Ready::kRead, [this] { read_output(); });
  ended_ = loop_.watch(process_.get(), Loop::Ready::kRead, [this] { exited(); });
  limit_ = loop_.after(kPatience, [this] {
    timed_out_ = true;
    kill(-pid_, SIGKILL);
  });
}

Result<> ExecPlugin::spawn() {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) return fail_errno(errno, "pipe of " + config_.command);
  output_ = UniqueFd(ends[0]);
  const UniqueFd write_end(ends[1]);
  fcntl(output_.get(), F_SETFL, O_NONBLOCK);  // ours alone: the plugin writes as it is used to

  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&files, write_end.get(), STDOUT_FILENO);
  // Our threads block the signals that stop the agent; the plugin shall not inherit that. Its group is its own, so that
  // what it starts ends with it.
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigset_t all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);

  std::vector<std::string> arguments{config_.command};
  arguments.insert(arguments.end(), config_.args.begin(), config_.args.end());
  std::vector<std::string> variables = environment(config_, info_);
  const int failed = posix_spawnp(&pid_, config_.command.c_str(), &files, &attributes, pointers(arguments).data(),
                                  pointers(variables).data());
  posix_spawn_file_actions_destroy(&files);
  posix_spawnattr_destroy(&attributes);
  if (failed != 0) {
    pid_ = -1;
    auto error = fail_errno(failed, "credential plugin " + config_.command);
    if (!config_.install_hint.empty()) error.error().what += " (" + config_.install_hint + ")";
    return error;
  }
  process_ = UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, pid_, 0)));  // glibc 2.36 declares it for C only
  if (!process_) {
    auto error = fail_errno(errno, "pidfd_open of " + config_.command);
    end();
    return error;
  }
  return {};
}

void ExecPlugin::read_output() {
  std::array<char, 4096> piece{};
  for (;;) {
    const ssize_t size = read(output_.get(), piece.data(), piece.size());
    if (size > 0 && text_.size() < kOutputBytes) text_.append(piece.data(), static_cast<std::size_t>(size));
    if (size > 0) continue;
    if (size == 0) readable_.cancel();
    return;
  }
}

void ExecPlugin::exited() {
  read_output();
  const int status = end();
  Result<ExecCredential> answer;
  if (timed_out_) {
    answer = fail(Code::kTimeout, "did not end within a minute");
  } else if (!WIFEXITED(status)) {
    answer = fail(Code::kDenied, "ended by signal {}", WTERMSIG(status));
  } else if (WEXITSTATUS(status) != 0) {
    answer = fail(Code::kDenied, "exit code {}", WEXITSTATUS(status));
  } else {
    answer = read_exec_credential(text_, config_.api_version);
  }
  if (!answer) answer = fail_with(std::move(answer).error(), "credential plugin " + config_.command);
  std::exchange(done_, nullptr)(std::move(answer));
}

int ExecPlugin::end() {
  limit_.cancel();
  readable_.cancel();
  ended_.cancel();
  process_.reset();
  output_.reset();
  int status = 0;
  if (pid_ > 0) {
    kill(-pid_, SIGKILL);
    waitpid(pid_, &status, 0);
  }
  pid_ = -1;
  return status;
}

}  // namespace fairlead::kube
