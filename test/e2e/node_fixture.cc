// SPDX-License-Identifier: Apache-2.0
#include "test/e2e/node_fixture.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>

#include "test/kit/cgroup.h"
#include "test/kit/netns.h"

namespace fairlead::e2e {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using testkit::eventually;
using testkit::run_command;

std::string read(const fs::path& file) {
  std::ifstream in(file);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::set<std::string> lines_of(const std::string& text) {
  std::set<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.insert(line);
  return lines;
}

std::vector<fs::path> children(const fs::path& folder) {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    found.push_back(at->path());
  }
  return found;
}

}  // namespace

Answers answers(const std::string& echo_get_output) {
  Answers found;
  for (const std::string& line : lines_of(echo_get_output)) {
    const auto space = line.rfind(' ');
    if (space == std::string::npos || line.find(' ') != space) continue;  // an error, in words
    found[line.substr(0, space)] = std::atoi(line.c_str() + space);
  }
  return found;
}

int PodLoad::seconds() const {
  const auto lines = lines_of(read(log_));
  return static_cast<int>(
      std::ranges::count_if(lines, [](const auto& line) { return line.find("answered") != std::string::npos; }));
}

bool PodLoad::goes_on(int more) const {
  const int until = seconds() + more;
  return eventually([&] { return seconds() >= until; }, 20s);
}

Json PodLoad::end() {
  enough_();
  eventually([&] { return !process_.running(); }, 10s);
  for (const std::string& line : lines_of(read(log_))) {
    if (line.starts_with('{')) return Json::parse(line, nullptr, false);
  }
  return {};
}

Result<std::unique_ptr<Node>> Node::make(const std::string& name, const fs::path& containerd,
                                         std::vector<std::string> source) {
  const fs::path folder = fs::path(testkit::folder()) / name;
  if (source.empty()) {
    source = {"--manifests",    folder / "manifests",           "--pod-cidr", fmt::format("{},{}", kPodsV4, kPodsV6),
              "--service-cidr", "10.96.0.0/16,fd00:10:96::/112"};
  }
  std::unique_ptr<Node> node(new Node(folder, containerd, std::move(source)));
  for (const char* part : {"manifests", "state", "run", "logs", "host"}) fs::create_directories(node->folder_ / part);
  std::ofstream(node->folder_ / "agent.yaml")
      << "apiVersion: fairlead.io/v1alpha1\nkind: AgentConfiguration\nlogRoot: " << (node->folder_ / "logs").string()
      << '\n';
  FL_TRY(node->start_containerd());
  const auto installed = node->agent_does("install-cni");
  if (installed.code != 0) return fail(Code::kSystem, "install-cni: {}", installed.output);
  return node;
}

Node::~Node() {
  agent_.stop();
  daemons_.clear();
  std::error_code error;
  fs::remove_all(folder_, error);
}

Result<> Node::start_containerd() {
  FL_LET(auto started,
         testkit::Containerd::start({.folder = folder_ / "containerd", .netns = {}, .bin_folder = containerd_bin_}));
  daemons_.push_back(std::move(started));
  return {};
}

std::vector<std::string> Node::agent_command(const std::string& command) const {
  // clang-format off
  std::vector<std::string> words{
          FAIRLEAD_BIN "/fairlead-agent", command, "--config", folder_ / "agent.yaml", "--mode", "node",
          "--node-name", "node", "--node-ip", fmt::format("{},{}", kNodeV4, kNodeV6),
          "--runtime-endpoint", runtime_endpoint_.empty() ? containerd().endpoint() : runtime_endpoint_,
          "--bpf-root", testkit::bpffs() + "/" + folder_.filename().string(),
          "--cgroup-root", fmt::format("{}/{}", testkit::kCgroup2, testkit::node_cgroup()),
          "--state-dir", folder_ / "state", "--run-dir", folder_ / "run",
          "--cni-bin-dir", containerd().cni_bin_dir(), "--cni-conf-dir", containerd().cni_conf_dir(),
          "--metrics-bind-address", "127.0.0.1:10249", "--healthz-bind-address", "127.0.0.1:10256"};
  // clang-format on
  words.insert(words.end(), source_.begin(), source_.end());
  return words;
}

testkit::CommandResult Node::agent_does(const std::string& command) const {
  std::string line;
  for (const std::string& word : agent_command(command)) line += word + " ";
  return run_command(line);
}

Result<> Node::launch_agent() {
  FL_LET(agent_, testkit::Process::start(agent_command("run"), folder_ / "agent.log"));
  return {};
}

bool Node::agent_ready() const {
  const Json status = ctl("status");
  return status.is_object() && status.value("ready", false);
}

Result<> Node::start_agent() {
  FL_TRY(launch_agent());
  const bool came = eventually([&] { return !agent_.running() || agent_ready(); }, 20s);
  if (came && agent_.running()) return {};
  return fail(Code::kUnavailable, "the agent is not ready: {}\n{}", ctl("status").dump(), agent_log());
}

std::string Node::agent_log() const {
  return run_command("tail -n 60 " + (folder_ / "agent.log").string()).output;
}

bool Node::agent_logged(const std::string& text) const {
  return read(folder_ / "agent.log").contains(text);
}

void Node::apply(const std::string& file, const std::string& text) const {
  const fs::path path = folder_ / "manifests" / file;
  const fs::path fresh = folder_ / "manifests" / ("." + file);
  std::ofstream(fresh) << text;
  fs::rename(fresh, path);
}

void Node::withdraw(const std::string& file) const {
  fs::remove(folder_ / "manifests" / file);
}

void Node::withdraw_all() const {
  for (const fs::path& file : children(folder_ / "manifests")) fs::remove(file);
}

Json Node::ctl(const std::string& command) const {
  const auto ran = run_command(fmt::format("{} --run-dir {} -o json {} 2>/dev/null", FAIRLEAD_BIN "/fairleadctl",
                                           (folder_ / "run").string(), command));
  const Json answer = Json::parse(ran.output, nullptr, false);
  return answer.is_discarded() ? Json() : answer;
}

Json Node::pod(const std::string& name) const {
  for (Json& row : ctl("pod list")) {
    if (row.value("name", "") == name) return row;
  }
  return {};
}

std::string Node::pod_text(const std::string& name, const std::string& field) const {
  const Json row = pod(name);
  return row.is_object() ? row.value(field, "") : "";
}

bool Node::pod_is(const std::string& name, const std::string& status, const std::string& ready) const {
  const Json row = pod(name);
  return row.is_object() && row.value("status", "") == status && row.value("ready", "") == ready;
}

std::set<std::string> Node::backends(const std::string& service, const std::string& state) const {
  std::set<std::string> found;
  for (const Json& row : ctl("backend list")) {
    const std::string address = row.value("address", "");
    if (row.value("service", "") == service && row.value("state", "") == state && !address.contains(':')) {
      found.insert(address);
    }
  }
  return found;
}

std::vector<std::string> Node::refused(const std::string& name) const {
  std::vector<std::string> found;
  const Json status = ctl("status");
  if (!status.is_object()) return found;
  for (const Json& row : status.value("refused", Json::array())) {
    if (row.value("name", "") == name) found.push_back(row.value("field", "") + ": " + row.value("reason", ""));
  }
  return found;
}

std::set<std::string> Node::containers(const std::string& pod, bool running) const {
  const std::string filter =
      R"("labels.\"io.kubernetes.pod.name\"==)" + pod + R"(,labels.\"io.kubernetes.container.name\"")";
  std::set<std::string> found = lines_of(containerd().ctr("containers ls -q " + filter).output);
  if (!running) return found;
  const std::string all = tasks();
  std::erase_if(found, [&](const std::string& id) { return !all.contains(id + " RUNNING"); });
  return found;
}

std::set<std::string> Node::all_containers() const {
  return lines_of(containerd().ctr("containers ls -q").output);
}

// "ID STATE PID" a line.
std::string Node::tasks() const {
  std::set<std::string> sorted;
  for (const std::string& line : lines_of(containerd().ctr("tasks ls").output)) {
    std::istringstream words(line);
    std::string id, pid, state;
    words >> id >> pid >> state;
    if (id != "TASK") sorted.insert(fmt::format("{} {} {}\n", id, state, pid));
  }
  std::string all;
  for (const std::string& line : sorted) all += line;
  return all;
}

std::ptrdiff_t Node::running_tasks() const {
  return std::ranges::count_if(lines_of(tasks()), [](const auto& line) { return line.contains(" RUNNING "); });
}

std::string Node::sandbox(const std::string& pod) const {
  const auto of_pod =
      lines_of(containerd().ctr(R"(containers ls -q "labels.\"io.kubernetes.pod.name\"==)" + pod + R"(")").output);
  const auto containers_only = containers(pod, false);
  const std::string all = tasks();
  for (const std::string& id : of_pod) {
    if (!containers_only.contains(id) && all.contains(id + " RUNNING")) return id;
  }
  return {};
}

void Node::kill_task(const std::string& id) const {
  (void)containerd().ctr("tasks kill --signal SIGKILL " + id);
}

std::string Node::fetch(const std::string& url) {
  return run_command(FAIRLEAD_ECHO " get --show yes " + url).output;
}

testkit::CommandResult Node::in_pod(const std::string& pod, const std::string& line) const {
  const auto ids = containers(pod);
  if (ids.size() != 1) return {127, fmt::format("pod {} has {} running containers", pod, ids.size())};
  static int number = 0;
  std::string quoted;
  for (const char letter : line) {
    if (letter == '"' || letter == '$' || letter == '\\') quoted += '\\';
    quoted += letter;
  }
  // Into a file: of a process that ends at once, ctr loses what comes through its FIFOs where others have the
  // processors. By one stream: two would write over each other.
  const fs::path log = folder_ / fmt::format("exec-{}.log", ++number);
  auto ran = containerd().ctr(fmt::format("tasks exec --log-uri file://{} --exec-id test-{} {} sh -c \"exec 2>&1; {}\"",
                                          log.string(), number, *ids.begin(), quoted));
  ran.output += read(log);
  fs::remove(log);
  return ran;
}

Answers Node::get(const std::string& pod, const std::string& url, int requests) const {
  const std::string arguments = fmt::format("get {} {}", url, requests);
  const auto ran = pod.empty() ? run_command(FAIRLEAD_ECHO " " + arguments) : in_pod(pod, "fl-echo " + arguments);
  return answers(ran.output);
}

Result<PodLoad> Node::load(const std::string& pod, const std::string& url, int new_connections_per_second,
                           int kept_rate) {
  const auto ids = containers(pod);
  if (ids.size() != 1) return fail(Code::kNotFound, "pod {} has {} running containers", pod, ids.size());
  const fs::path log = folder_ / "load.log";
  fs::remove(log);
  (void)in_pod(pod, "rm -f /tmp/enough");
  FL_LET(auto process,
         testkit::Process::start({"ctr", "--address", folder_ / "containerd" / "containerd.sock", "--namespace",
                                  "k8s.io", "tasks", "exec", "--exec-id", "load", *ids.begin(), "fl-echo", "load",
                                  "--url", url, "--rate", std::to_string(new_connections_per_second), "--keepalive",
                                  "20", "--keepalive-rate", std::to_string(kept_rate), "--duration", "300s",
                                  // Two cores that end twenty pods may keep a client waiting; less than
                                  // the second after which TCP tries a lost SYN again.
                                  "--timeout", "900ms", "--until-file", "/tmp/enough"},
                                 log));
  PodLoad load(std::move(process), log, [this, pod] { (void)in_pod(pod, "touch /tmp/enough"); });
  if (!load.goes_on(1)) return fail(Code::kUnavailable, "the load does not start: {}", read(log));
  return load;
}

std::string Node::leftovers() const {
  std::string found = leftovers_but_containers();
  for (const std::string& id : all_containers()) found += "container " + id + "\n";
  return found;
}

std::string Node::leftovers_but_containers() const {
  std::string found;
  const auto note = [&](const std::string& what, const std::string& which) { found += what + " " + which + "\n"; };
  for (const fs::path& device : children("/proc/sys/net/ipv4/conf")) {
    const std::string name = device.filename();
    if (name.starts_with("fl")) note("device", name);
  }
  if (const Json endpoints = ctl("endpoint list"); endpoints != Json::array()) note("endpoints", endpoints.dump());
  for (const fs::path& root : testkit::cgroups_named(testkit::node_cgroup())) {
    std::error_code error;
    for (fs::recursive_directory_iterator at(root, error), end; !error && at != end; at.increment(error)) {
      if (at->is_directory() && at->path().filename().string().starts_with("pod")) note("cgroup", at->path());
    }
  }
  for (const std::string& line : lines_of(read("/proc/self/mountinfo"))) {
    if (line.contains(folder_.string() + "/") && (line.contains("/netns/") || line.contains("/pods/")))
      note("mount", line);
  }
  for (const fs::path& pod : children(folder_ / "state" / "pods")) note("folder", pod);
  for (const fs::path& pod : children(folder_ / "logs")) note("logs", pod);
  return found;
}

std::set<std::string> Node::pins() const {
  std::set<std::string> found;
  const fs::path root = fs::path(testkit::bpffs()) / folder_.filename();
  std::error_code error;
  for (fs::recursive_directory_iterator at(root, error), end; !error && at != end; at.increment(error)) {
    found.insert(fs::relative(at->path(), root));
  }
  return found;
}

}  // namespace fairlead::e2e
