// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/manifests/manifest_source.h"

#include <gtest/gtest.h>
#include <k8s/pod.pb.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>

#include "agent/object_tables.h"

namespace fairlead::kube {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

std::string pod_text(const std::string& name, const std::string& args = "x", const std::string& image = "echo:1") {
  return fmt::format(
      "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {}\nspec:\n  containers:\n  - name: main\n    image: {}\n    "
      "args: "
      "[\"{}\"]\n",
      name, image, args);
}
std::string service_text(const std::string& name, int port) {
  return fmt::format("apiVersion: v1\nkind: Service\nmetadata: {{name: {}}}\nspec: {{ports: [{{port: {}}}]}}\n", name,
                     port);
}

// A source over a directory of its own, with real inotify, on a loop that the test turns.
class ManifestSourceTest : public testing::Test {
 protected:
  ManifestSourceTest() {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    root_ = fs::temp_directory_path() / fmt::format("fl-manifests-{}-{}", info->name(), getpid());
    fs::remove_all(root_);
    fs::create_directories(root_ / "m");
  }
  ~ManifestSourceTest() override {
    source_.reset();
    fs::remove_all(root_);
  }

  void put(const std::string& path, const std::string& text) {
    fs::create_directories((root_ / "m" / path).parent_path());
    std::ofstream(root_ / "m" / path) << text;
  }
  void rename_over(const std::string& path, const std::string& text) {
    std::ofstream(root_ / "new") << text;
    fs::rename(root_ / "new", root_ / "m" / path);
  }

  void start(Duration rescan = 1h) {
    source_.reset();
    registry_ = std::make_unique<metrics::Registry>();
    tables_.emplace("manifests");
    auto [caller, responder] = make_request<Inspect, Json>();
    ask_ = caller;
    pod_reader_.emplace(tables_->pods.reader());
    ManifestConfig config;
    config.directory = root_ / "m";
    config.node = {.name = "n1",
                   .uid = {},
                   .labels = {{"zone", "a"}},
                   .pod_cidrs = {*Cidr::parse("10.244.0.0/24")},
                   .addresses = {*IpAddress::parse("192.0.2.1")}};
    config.state_directory = root_ / "state";
    config.rescan = rescan;
    config.retry = 1ms;
    config.settle = 0ms;
    source_ =
        std::make_unique<ManifestSource>(loop_, config, tables_->manifest_writers(), *registry_, std::move(responder));
    source_->start();
  }

  bool turn_until(const std::function<bool()>& done) {
    const auto deadline = std::chrono::steady_clock::now() + 10s;
    while (!done()) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      loop_.poll();
    }
    return true;
  }
  // Turns until a scan that began after now is through.
  void settle() {
    const double before = scans();
    fs::create_directories(root_ / "m" / fmt::format("tick{}", ++ticks_));
    ASSERT_TRUE(turn_until([&] { return scans() > before; }));
  }
  double scans() const { return metric("fairlead_manifest_scans_total"); }
  double metric(const std::string& name) const {
    for (const auto& family : registry_->Collect()) {
      if (family.name != name) continue;
      const auto& value = family.metric.front();
      return family.type == prometheus::MetricType::Counter ? value.counter.value : value.gauge.value;
    }
    ADD_FAILURE() << "no metric " << name;
    return 0;
  }
  Json status() {
    std::optional<Result<Json>> answer;
    ask_.call(loop_, Inspect{"manifests.status", {}}, 5s, [&](Result<Json> result) { answer = std::move(result); });
    EXPECT_TRUE(turn_until([&] { return answer.has_value(); }));
    return answer && *answer ? **answer : Json();
  }
  std::vector<std::shared_ptr<const model::Pod>> pods() {
    for (const auto& change : pod_reader_->take().changes) {
      if (change.after == nullptr) {
        seen_.erase(change.key);
      } else {
        seen_[change.key] = change.after;
      }
    }
    std::vector<std::shared_ptr<const model::Pod>> all;
    for (const auto& [key, row] : seen_) all.push_back(row);
    return all;
  }
  std::uint16_t port_of(const std::string& name) {
    const auto row = tables_->services.get("default/" + name);
    return row == nullptr ? 0 : row->ports.at(0).port;
  }

  fs::path root_;
  Loop loop_;
  std::unique_ptr<metrics::Registry> registry_;
  std::optional<ObjectTables> tables_;
  std::optional<state::TableReader<model::Pod>> pod_reader_;
  std::map<std::string, std::shared_ptr<const model::Pod>> seen_;
  Caller<Inspect, Json> ask_;
  std::unique_ptr<ManifestSource> source_;
  int ticks_ = 0;
};

TEST_F(ManifestSourceTest, FirstScanFillsEveryTableThenCompletesThem) {
  put("pod.yaml", pod_text("web"));
  put("deep/er/svc.yml", service_text("web", 80) + "---\n" + service_text("db", 90));
  put("all.json", R"({"apiVersion": "v1", "kind": "List", "items": [
    {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "1"}, "binaryData": {"b": "AP8="}},
    {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"k": "v"}},
    {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
     "metadata": {"name": "e", "labels": {"kubernetes.io/service-name": "web"}},
     "ports": [{"port": 80}], "endpoints": [{"addresses": ["10.0.0.1"]}]},
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}]})");
  put(".hidden.yaml", "bad: [");
  put("notes.txt", "bad: [");
  start();
  EXPECT_EQ(pods().size(), 1U);
  EXPECT_EQ(pods()[0]->id.name, "web");
  EXPECT_EQ(pods()[0]->object->spec().nodename(), "n1");
  EXPECT_EQ(pods()[0]->source, (root_ / "m/pod.yaml").string());
  EXPECT_EQ(port_of("web"), 80);
  EXPECT_EQ(port_of("db"), 90);
  EXPECT_EQ(tables_->config_maps.get("default/c")->data.at("b"), std::string("\0\xff", 2));
  EXPECT_EQ(tables_->secrets.get("default/s")->data.at("k"), "v");
  EXPECT_EQ(tables_->slices.get("default/e")->service_key(), "default/web");
  EXPECT_TRUE(tables_->services.missing().empty() && tables_->slices.missing().empty() &&
              tables_->pods.missing().empty() && tables_->config_maps.missing().empty() &&
              tables_->secrets.missing().empty() && tables_->node.missing().empty() &&
              tables_->nodes.missing().empty());
  EXPECT_EQ(metric("fairlead_manifest_files"), 3);
  EXPECT_EQ(metric("fairlead_manifest_objects"), 7);
  EXPECT_EQ(metric("fairlead_manifest_refused_objects"), 0);
}

TEST_F(ManifestSourceTest, NodesAreTheClustersAndThisOneIsAlwaysThere) {
  const auto node = [](const std::string& name, const std::string& rest) {
    return fmt::format("apiVersion: v1\nkind: Node\nmetadata: {{name: {}, labels: {{a: b}}}}\n{}\n", name, rest);
  };
  put("n2.yaml", node("n2",
                      "spec: {podCIDR: 10.9.2.0/24}\n"
                      "status: {addresses: [{type: Hostname, address: n2}, {type: InternalIP, address: 192.0.2.2}]}"));
  start();
  const model::Node fallback{
      "n1", "", {{"zone", "a"}}, {*Cidr::parse("10.244.0.0/24")}, {*IpAddress::parse("192.0.2.1")}};
  EXPECT_EQ(*tables_->node.get("n1"), fallback);
  EXPECT_EQ(*tables_->nodes.get("n1"), fallback);
  EXPECT_EQ(tables_->node.get("n2"), nullptr);
  EXPECT_EQ(*tables_->nodes.get("n2"),
            (model::Node{"n2", "", {{"a", "b"}}, {*Cidr::parse("10.9.2.0/24")}, {*IpAddress::parse("192.0.2.2")}}));

  put("n1.yaml", node("n1", "spec: {podCIDRs: [10.9.1.0/24]}"));  // addresses: as the agent was told
  settle();
  EXPECT_EQ(
      *tables_->node.get("n1"),
      (model::Node{
          "n1", "", {{"a", "b"}, {"zone", "a"}}, {*Cidr::parse("10.9.1.0/24")}, {*IpAddress::parse("192.0.2.1")}}));
  fs::remove(root_ / "m/n1.yaml");
  fs::remove(root_ / "m/n2.yaml");
  settle();
  EXPECT_EQ(*tables_->node.get("n1"), fallback);
  EXPECT_EQ(*tables_->nodes.get("n1"), fallback);
  EXPECT_EQ(tables_->nodes.get("n2"), nullptr);
}

TEST_F(ManifestSourceTest, AnUnreadableDirectoryIsNotAnEmptyOne) {
  fs::remove_all(root_ / "m");
  start();
  EXPECT_FALSE(tables_->pods.missing().empty());
  put("pod.yaml", pod_text("web"));
  ASSERT_TRUE(turn_until([&] { return tables_->pods.missing().empty(); }));
  EXPECT_EQ(pods().size(), 1U);
  fs::remove_all(root_ / "m");
  ASSERT_TRUE(turn_until([&] { return !status()["trouble"].empty(); }));
  EXPECT_EQ(pods().size(), 1U);
}

TEST_F(ManifestSourceTest, AFileWhoseNameIsNotUtf8IsNamedAndLeavesTheOthersAlone) {
  put("good.yaml", pod_text("web"));
  put("bad\xff.yaml", pod_text("other"));
  put("nor this\xff/a.yaml", pod_text("third"));
  put("no manifest\xff", "x");
  start();
  EXPECT_EQ(pods().size(), 1U);
  const Json trouble = status()["trouble"];
  ASSERT_EQ(trouble.size(), 2U);
  for (const auto& [path, why] : trouble.items()) {
    EXPECT_NE(why.get<std::string>().find("its name is not UTF-8"), std::string::npos) << why;
  }
  fs::rename(root_ / "m/bad\xff.yaml", root_ / "m/bad.yaml");
  ASSERT_TRUE(turn_until([&] { return pods().size() == 2; }));
}

TEST_F(ManifestSourceTest, FollowsWritesRenamesDeletionsAndNewDirectories) {
  start();
  put("svc.yaml", service_text("web", 80));
  ASSERT_TRUE(turn_until([&] { return port_of("web") == 80; }));
  rename_over("svc.yaml", service_text("web", 81));
  ASSERT_TRUE(turn_until([&] { return port_of("web") == 81; }));
  put("new/deeper/other.yaml", service_text("other", 90));
  ASSERT_TRUE(turn_until([&] { return port_of("other") == 90; }));
  put("new/deeper/other.yaml", service_text("other", 91));
  ASSERT_TRUE(turn_until([&] { return port_of("other") == 91; }));
  fs::rename(root_ / "m/svc.yaml", root_ / "m/moved.yaml");
  settle();
  EXPECT_EQ(port_of("web"), 81);
  fs::remove(root_ / "m/moved.yaml");
  ASSERT_TRUE(turn_until([&] { return port_of("web") == 0; }));
  fs::remove_all(root_ / "m/new");
  ASSERT_TRUE(turn_until([&] { return port_of("other") == 0; }));
}

TEST_F(ManifestSourceTest, AFileBeingWrittenIsNotReadBeforeItIsClosed) {
  put("svc.yaml", service_text("web", 80));
  start();
  std::ofstream half(root_ / "m/svc.yaml");
  half << service_text("web", 81) << "---\n" << std::flush;
  settle();
  EXPECT_EQ(port_of("web"), 80);
  half << service_text("db", 90);
  half.close();
  ASSERT_TRUE(turn_until([&] { return port_of("db") == 90; }));
  EXPECT_EQ(port_of("web"), 81);
  EXPECT_EQ(metric("fairlead_manifest_refusals_total"), 0);
}

TEST_F(ManifestSourceTest, AFileThatIsNeverClosedIsReadAfterTwoRescans) {
  start(1ms);
  std::ofstream open(root_ / "m/svc.yaml");
  open << service_text("web", 80) << std::flush;
  ASSERT_TRUE(turn_until([&] { return port_of("web") == 80; }));
}

TEST_F(ManifestSourceTest, FollowsTheSymlinkSwapOfAMountedConfigMap) {
  const fs::path dir = root_ / "m";
  fs::create_directories(dir / "..v1/sub");
  std::ofstream(dir / "..v1/svc.yaml") << service_text("web", 80);
  std::ofstream(dir / "..v1/sub/db.yaml") << service_text("db", 90);
  fs::create_symlink("..v1", dir / "..data");
  fs::create_symlink("..data/svc.yaml", dir / "svc.yaml");
  fs::create_symlink("..data/sub", dir / "sub");
  start();
  EXPECT_EQ(port_of("web"), 80);
  EXPECT_EQ(port_of("db"), 90);
  EXPECT_EQ(status()["files"], 2);
  fs::create_directories(dir / "..v2/sub");
  std::ofstream(dir / "..v2/svc.yaml") << service_text("web", 81);
  std::ofstream(dir / "..v2/sub/db.yaml") << service_text("db", 91);
  fs::create_symlink("..v2", dir / "..data_tmp");
  fs::rename(dir / "..data_tmp", dir / "..data");
  fs::remove_all(dir / "..v1");
  ASSERT_TRUE(turn_until([&] { return port_of("web") == 81 && port_of("db") == 91; }));
}

TEST_F(ManifestSourceTest, ALoopOfSymlinksEnds) {
  put("a/svc.yaml", service_text("web", 80));
  fs::create_directory_symlink("..", root_ / "m/a/up");
  fs::create_symlink("nowhere.yaml", root_ / "m/broken.yaml");
  start();
  EXPECT_EQ(port_of("web"), 80);
  EXPECT_EQ(status()["files"], 1);
  EXPECT_EQ(status()["trouble"].size(), 0U) << status()["trouble"];
}

TEST_F(ManifestSourceTest, ABadObjectKeepsItsLastGoodVersionAndLeavesOthersAlone) {
  put("two.yaml", service_text("web", 80) + "---\n" + service_text("db", 90));
  start();
  rename_over("two.yaml", service_text("web", 99999) + "---\n" + service_text("db", 91));
  ASSERT_TRUE(turn_until([&] { return port_of("db") == 91; }));
  EXPECT_EQ(port_of("web"), 80);
  const Json now = status();
  ASSERT_EQ(now["refused"].size(), 2U) << now;  // the port, and the target port that follows from it
  const Json& refused = now["refused"][0];
  EXPECT_EQ(refused["file"], "two.yaml");
  EXPECT_EQ(refused["document"], 1);
  EXPECT_EQ(refused["line"], 4);
  EXPECT_EQ(refused["name"], "web");
  EXPECT_EQ(refused["field"], "spec.ports[0].port");
  EXPECT_EQ(refused["reason"], "Invalid value: 99999: must be between 1 and 65535, inclusive");
  EXPECT_EQ(refused["lastGoodInForce"], true);
  EXPECT_EQ(metric("fairlead_manifest_kept_objects"), 1);
  EXPECT_EQ(metric("fairlead_manifest_refused_objects"), 1);
  EXPECT_EQ(metric("fairlead_manifest_refusals_total"), 1);
  rename_over("two.yaml", service_text("web", 82));
  ASSERT_TRUE(turn_until([&] { return port_of("web") == 82; }));
  EXPECT_EQ(port_of("db"), 0) << "an object that left a good file is gone";
  EXPECT_EQ(metric("fairlead_manifest_kept_objects"), 0);
}

TEST_F(ManifestSourceTest, ABadFileKeepsEverythingOverARestart) {
  put("a.yaml", service_text("web", 80) + "---\n" + pod_text("p", "\u00e9\\u0001\\U0001F600") +
                    "---\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {k: v}\n");
  start();
  ASSERT_EQ(pods().size(), 1U);
  const std::string uid = pods()[0]->id.uid;
  rename_over("a.yaml", "kind: [\n");
  ASSERT_TRUE(turn_until([&] { return metric("fairlead_manifest_kept_objects") == 3; }));
  seen_.clear();
  start();
  EXPECT_EQ(port_of("web"), 80);
  ASSERT_EQ(pods().size(), 1U);
  EXPECT_EQ(pods()[0]->id.uid, uid);
  EXPECT_EQ(tables_->secrets.get("default/s")->data.at("k"), "v");
  EXPECT_EQ(status()["refused"].size(), 1U);
  for (const auto& entry : fs::directory_iterator(root_ / "state/manifests")) {
    EXPECT_EQ(fs::status(entry).permissions(), fs::perms::owner_read | fs::perms::owner_write) << entry.path();
  }
  source_.reset();
  fs::remove(root_ / "m/a.yaml");
  seen_.clear();
  start();
  EXPECT_EQ(port_of("web"), 0) << "a file removed while no agent ran takes its objects with it";
  EXPECT_TRUE(pods().empty());
  EXPECT_TRUE(fs::is_empty(root_ / "state/manifests"));
}

TEST_F(ManifestSourceTest, DuplicatesAcrossFilesAreRefusedAndStepInWhenTheOwnerLeaves) {
  put("b.yaml", service_text("web", 80));
  start();
  put("a.yaml", service_text("web", 70));
  ASSERT_TRUE(turn_until([&] { return metric("fairlead_manifest_refused_objects") == 1; }));
  EXPECT_EQ(port_of("web"), 80) << "the one that is in force stays";
  const Json refused = status()["refused"][0];
  EXPECT_EQ(refused["file"], "a.yaml");
  EXPECT_EQ(refused["reason"], "already defined in b.yaml");
  start();
  EXPECT_EQ(port_of("web"), 80) << "also over a restart";
  fs::remove(root_ / "m/b.yaml");
  ASSERT_TRUE(turn_until([&] { return port_of("web") == 70; }));
  EXPECT_EQ(metric("fairlead_manifest_refused_objects"), 0);
}

TEST_F(ManifestSourceTest, AChangedPodIsAnotherPodAndAChangedImageIsNot) {
  put("p.yaml", pod_text("p", "one"));
  start();
  const std::string uid = pods().at(0)->id.uid;
  put("p.yaml", pod_text("p", "one", "echo:2"));
  ASSERT_TRUE(turn_until([&] { return pods().at(0)->object->spec().containers(0).image() == "echo:2"; }));
  EXPECT_EQ(pods().size(), 1U);
  EXPECT_EQ(pods()[0]->id.uid, uid);
  put("p.yaml", pod_text("p", "two"));
  ASSERT_TRUE(turn_until([&] { return pods().at(0)->id.uid != uid; }));
  EXPECT_EQ(pods().size(), 1U);
  start();
  seen_.clear();
  EXPECT_EQ(pods().size(), 1U);
}

TEST_F(ManifestSourceTest, ControllersAndRefusedFieldsAreSaidClearly) {
  put("d.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {}\n");
  put("p.yaml", pod_text("p") + "  hostUsers: false\n");
  start();
  const Json refused = status()["refused"];
  ASSERT_EQ(refused.size(), 2U) << refused;
  EXPECT_EQ(refused[0]["reason"], "Deployment needs a control plane: use --kubeconfig, or write Pods");
  EXPECT_EQ(refused[1]["field"], "spec.hostUsers");
  EXPECT_EQ(refused[1]["line"], 10);
  EXPECT_EQ(refused[1]["lastGoodInForce"], false);
  EXPECT_TRUE(pods().empty());
}

TEST_F(ManifestSourceTest, UnknownOperationsAreAnswered) {
  start();
  std::optional<Result<Json>> answer;
  ask_.call(loop_, Inspect{"manifests.nope", {}}, 5s, [&](Result<Json> result) { answer = std::move(result); });
  ASSERT_TRUE(turn_until([&] { return answer.has_value(); }));
  ASSERT_FALSE(*answer);
  EXPECT_EQ(answer->error().code, Code::kNotFound);
}

}  // namespace
}  // namespace fairlead::kube
