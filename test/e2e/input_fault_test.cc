// SPDX-License-Identifier: Apache-2.0
// Bad files, a full disk, bad requests and a rival: each is named, and changes nothing of what is in force.
#include <gmock/gmock.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "agent/base/atomic_file.h"
#include "test/e2e/fault_fixture.h"

namespace fairlead::e2e {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using testing::AllOf;
using testing::HasSubstr;
using testkit::eventually;
using testkit::run_command;

class InputFaultTest : public FaultTest {
 protected:
  // The reasons for which objects of a manifest file are refused, as "LINE: FIELD: REASON".
  static std::string refused(const std::string& file) {
    std::string all;
    for (const Json& row : node_->ctl("status").value("refused", Json::array())) {
      if (row.value("file", "") != file + ".yaml") continue;
      all += fmt::format("{}: {}: {}\n", row.value("line", 0), row.value("field", ""), row.value("reason", ""));
    }
    return all;
  }
  static Result<Json> ask(const std::string& op, const Json& args) {
    return local_call(node_->folder() / "run" / "agent.sock", op, args, 5s);
  }
};

TEST_F(InputFaultTest, AFullDisk) {
  const fs::path ballast = state("ballast");
  EXPECT_NE(run_command("dd if=/dev/zero bs=4096 of='" + ballast.string() + "'").code, 0);  // until nothing is left
  apply("more", R"(
apiVersion: v1
kind: Service
metadata: {name: more}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}
)");
  apply("extra", web("extra", "", "other"));
  const auto said = [] { return pod_failures("extra").dump(); };
  EXPECT_TRUE(eventually([&] { return said().contains("No space left on device"); }, 30s)) << said();
  EXPECT_TRUE(eventually([&] { return failing("services: ").contains("No space left on device"); }, 10s))
      << node_->ctl("status").dump(1);
  EXPECT_THAT(failing("services: "), HasSubstr(state("")));
  EXPECT_TRUE(node_->agent_logged("manifest's last good version is not kept"));
  expect_in_force();
  node_->kill_agent();
  ASSERT_TRUE(node_->launch_agent());  // it comes up, though it has something to complain about
  EXPECT_TRUE(eventually([] { return failing("services: ").contains("No space left on device"); }, 20s))
      << node_->ctl("status").dump(1) << node_->agent_log();
  expect_in_force();

  fs::remove(ballast);
  expect_running("extra");
  EXPECT_TRUE(eventually([] { return failing("services: ").empty(); }, 20s)) << failing("services: ");
  EXPECT_EQ(node_->backends("more").size(), 2U);
  EXPECT_EQ(node_->containers("extra", false).size(), 1U);
}

// After a crash of the machine, a file may hold half of what was written.
TEST_F(InputFaultTest, EachStateFileCutShort) {
  std::vector<fs::path> files;
  for (const auto& at : fs::recursive_directory_iterator(state(""))) {
    const bool of_a_pod = at.path().string().contains("/pods/");
    if (at.is_regular_file() && !of_a_pod) files.push_back(at.path());
  }
  ASSERT_GE(files.size(), 7U);  // addresses, ClusterIPs, readiness, and a kept copy of each manifest
  const Json endpoints = node_->ctl("endpoint list");
  auto load = node_->load("client", kWeb4, 100);
  ASSERT_TRUE(load) << load.error().message();
  for (const fs::path& file : files) {
    if (!fs::exists(file)) continue;
    node_->kill_agent();
    fs::resize_file(file, fs::file_size(file) / 2);
    const auto started = node_->start_agent();
    ASSERT_TRUE(started) << file << ": " << started.error().message();
    EXPECT_TRUE(node_->agent_logged(file.filename())) << file;
    expect_in_force();
    EXPECT_EQ(node_->ctl("endpoint list").size(), endpoints.size()) << file;
    for (const Json& before : endpoints) {
      const Json now = node_->ctl("endpoint get " + before.value("container", ""));
      EXPECT_EQ(now.value("addresses", Json()), before.value("addresses", Json(0))) << file;
    }
  }
  const Json report = load->end();
  ASSERT_TRUE(report.is_object());
  EXPECT_EQ(report["failed"], 0) << report.dump();
}

TEST_F(InputFaultTest, ManifestsThatAreNone) {
  std::string binary =
      "\x7f"
      "ELF";
  for (int i = 0; i < 4096; ++i) binary += static_cast<char>(i * 37 % 256);
  apply("binary", binary);
  apply("huge", "a: " + std::string(17U << 20, 'x'));
  apply("cyclic", "apiVersion: v1\nkind: Pod\nmetadata: &m {name: x, labels: {a: *m}}\n");
  apply("comma", ",");
  EXPECT_TRUE(eventually([] { return !refused("comma").empty(); }, 10s)) << node_->ctl("status").dump(1);
  EXPECT_THAT(refused("binary"), HasSubstr("not UTF-8"));
  EXPECT_THAT(refused("huge"), AllOf(HasSubstr("huge.yaml"), HasSubstr("the limit is 16777216")));
  EXPECT_THAT(refused("cyclic"), HasSubstr("3: : an alias stands inside its own anchor"));
  EXPECT_THAT(refused("comma"), HasSubstr("1: : unexpected text"));
  expect_in_force();
  // What was good and is none now stays in force, over a restart too.
  apply("web-1", binary);
  EXPECT_TRUE(eventually([] { return refused("web-1").contains("not UTF-8"); }, 10s));
  expect_in_force();
  ASSERT_NO_FATAL_FAILURE(restart_agent());
  expect_in_force();
  apply("web-1", web("web-1"));
  for (const char* name : {"binary", "huge", "cyclic", "comma"}) node_->withdraw(std::string(name) + ".yaml");
  EXPECT_TRUE(eventually([] { return node_->ctl("status").value("refused", Json()) == Json::array(); }, 10s))
      << node_->ctl("status").dump(1);
}

TEST_F(InputFaultTest, CniRequestsWithoutFields) {
  const Json endpoints = node_->ctl("endpoint list");
  const Json whole{{"container", "c"}, {"ifname", "eth0"}, {"netns", "/proc/self/ns/net"}};
  for (const char* op : {"cni.add", "cni.del", "cni.check"}) {
    for (const char* field : {"container", "ifname", "netns"}) {
      if (op == std::string("cni.del") && field != std::string("container") && field != std::string("ifname")) continue;
      for (const Json& value : {Json(), Json(7), Json(Json::array()), Json("")}) {
        Json args = whole;
        args[field] = value;
        if (value.is_null()) args.erase(field);
        const auto answer = ask(op, args);
        ASSERT_FALSE(answer) << op << args;
        EXPECT_THAT(answer.error().what, HasSubstr(std::string("argument ") + field)) << op << args;
      }
    }
    for (const Json& none : {Json(), Json("x"), Json(Json::array())}) EXPECT_FALSE(ask(op, none)) << op << none;
  }
  const std::string plugin = FAIRLEAD_BIN "/fairlead-cni";
  const std::string conf = fmt::format(R"({{"cniVersion":"1.0.0","name":"n","type":"fairlead-cni","runDir":"{}"}})",
                                       (node_->folder() / "run").string());
  for (const auto& [environment, named] : std::vector<std::pair<std::string, std::string>>{
           {"", "CNI_COMMAND"},
           {"CNI_COMMAND=ADD", "CNI_CONTAINERID"},
           {"CNI_COMMAND=ADD CNI_CONTAINERID=c", "CNI_IFNAME"},
           {"CNI_COMMAND=ADD CNI_CONTAINERID=c CNI_IFNAME=eth0", "CNI_NETNS"}}) {
    const auto ran = run_command(fmt::format("printf '%s' '{}' | env -i {} {}", conf, environment, plugin));
    EXPECT_EQ(ran.code, 1);
    const Json answer = Json::parse(ran.output, nullptr, false);
    ASSERT_TRUE(answer.is_object()) << ran.output;
    EXPECT_EQ(answer.value("code", 0), 4) << ran.output;
    EXPECT_THAT(answer.value("msg", ""), HasSubstr(named));
  }
  EXPECT_EQ(node_->ctl("endpoint list"), endpoints);
  EXPECT_EQ(Node::fetch("http://127.0.0.1:10256/readyz").contains("\"healthy\":true"), true);
}

TEST_F(InputFaultTest, ASecondAgentIsRefused) {
  const auto second = node_->agent_does("run");
  EXPECT_EQ(second.code, 1);
  EXPECT_THAT(second.output, HasSubstr(fmt::format("is in use by process {};", node_->agent_pid())));
  EXPECT_TRUE(node_->agent_runs());
  EXPECT_TRUE(node_->agent_ready());  // its socket is still there
}

// Whoever may talk to the agent's socket may have pods' networks; the rest of what it serves is on loopback.
TEST_F(InputFaultTest, NobodyElseReachesTheAgent) {
  struct stat socket{};
  ASSERT_EQ(stat((node_->folder() / "run" / "agent.sock").c_str(), &socket), 0);
  EXPECT_EQ(socket.st_mode, S_IFSOCK | 0600U);
  const auto listening = run_command(
      fmt::format("for fd in /proc/{}/fd/*; do readlink $fd; done | sed -n 's/^socket:.\\([0-9]*\\).$/\\1/p' | sort -u "
                  ">{}/inodes; awk 'NR > 1 && $4 == \"0A\" {{print $10, $2}}' /proc/net/tcp /proc/net/tcp6 | sort | "
                  "join - {}/inodes",
                  node_->agent_pid(), node_->folder().string(), node_->folder().string()));
  EXPECT_EQ(listening.code, 0);
  EXPECT_THAT(listening.output, AllOf(HasSubstr("0100007F:2809"), HasSubstr("0100007F:2810")));
  EXPECT_EQ(std::ranges::count(listening.output, '\n'), 2) << listening.output;
}

}  // namespace
}  // namespace fairlead::e2e
