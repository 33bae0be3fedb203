// SPDX-License-Identifier: Apache-2.0
// Volumes on a real disk, in a mount namespace of the test's own. Needs root.
#include "agent/pods/volumes/volumes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <k8s/pod.pb.h>
#include <linux/magic.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <filesystem>
#include <fstream>
#include <optional>

#include "agent/base/atomic_file.h"

namespace fairlead::pods {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class VolumesTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    ASSERT_EQ(unshare(CLONE_NEWNS), 0) << "needs root";
    ASSERT_EQ(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
  }
  VolumesTest() {
    fs::create_directories(dir_);
    pod_.mutable_metadata()->set_namespace_("default");
    pod_.mutable_metadata()->set_name("web");
  }
  ~VolumesTest() override {
    (void)wait<void>([&](auto done) { volumes_.teardown("u1", std::move(done)); });
    fs::remove_all(dir_);
  }

  // Runs the loop until `start`'s answer.
  template <class T, class Start>
  Result<T> wait(Start start) {
    std::optional<Result<T>> answer;
    start([&](Result<T> result) { answer = std::move(result); });
    while (!answer) loop_.poll();
    return std::move(*answer);
  }
  Result<Volumes::HostPaths> setup() {
    return wait<Volumes::HostPaths>([&](auto done) { volumes_.setup("u1", pod_, sources(), std::move(done)); });
  }
  Result<bool> refresh() {
    return wait<bool>([&](auto done) { volumes_.refresh("u1", pod_, sources(), std::move(done)); });
  }
  Result<> teardown() {
    return wait<void>([&](auto done) { volumes_.teardown("u1", std::move(done)); });
  }
  VolumeSources sources() {
    return {
        .config = [this](ConfigKind kind, const std::string& key) -> Result<std::shared_ptr<const model::ConfigData>> {
          const auto& from = kind == ConfigKind::kSecret ? secrets_ : config_maps_;
          const auto found = from.find(key);
          if (found == from.end()) return nullptr;
          return std::make_shared<model::ConfigData>(model::ConfigData{{}, found->second});
        },
        .token = [this](const k8s::Pod&, const auto& projection) -> Result<std::string> {
          if (token_.empty()) return fail(Code::kUnavailable, "there is none");
          return token_ + projection.audience();
        },
        .allocatable = {.cpu_milli = 2000, .memory_bytes = 1 << 30, .ephemeral_bytes = 0}};
  }
  k8s::VolumeSource& volume(const std::string& name) {
    auto* added = pod_.mutable_spec()->add_volumes();
    added->set_name(name);
    return *added->mutable_volumesource();
  }
  static bool on_tmpfs(const std::string& path) {
    struct statfs info{};
    return statfs(path.c_str(), &info) == 0 && info.f_type == TMPFS_MAGIC;
  }
  static mode_t mode(const std::string& path) {
    struct stat info{};
    EXPECT_EQ(stat(path.c_str(), &info), 0) << path;
    return info.st_mode & 07777;
  }

  const fs::path dir_ = fs::temp_directory_path() / ("fl-volumes-" + std::to_string(getpid()));
  const std::string pods_ = dir_ / "pods";
  k8s::Pod pod_;
  std::map<std::string, std::map<std::string, std::string>> config_maps_;
  std::map<std::string, std::map<std::string, std::string>> secrets_;
  std::string token_;
  Loop loop_;
  WorkerPool pool_{2};
  Volumes volumes_{loop_, pool_, pods_};
};

TEST_F(VolumesTest, EmptyDirsOnDiskAndInMemory) {
  volume("scratch").mutable_emptydir();
  auto& memory = *volume("cache").mutable_emptydir();
  memory.set_medium("Memory");
  memory.mutable_sizelimit()->set_string("1Mi");
  const auto paths = setup();
  ASSERT_TRUE(paths) << paths.error().message();
  EXPECT_EQ(paths->at("scratch"), pods_ + "/u1/volumes/kubernetes.io~empty-dir/scratch");
  EXPECT_EQ(mode(paths->at("scratch")), 0777U);
  EXPECT_EQ(mode(pods_ + "/u1"), 0750U);
  ASSERT_TRUE(on_tmpfs(paths->at("cache")));
  struct statfs info{};
  statfs(paths->at("cache").c_str(), &info);
  EXPECT_EQ(info.f_blocks * static_cast<std::uint64_t>(info.f_bsize), 1U << 20);
  // Again, as after a restart: what a container wrote stays.
  std::ofstream(paths->at("cache") + "/kept") << "x";
  ASSERT_TRUE(setup());
  EXPECT_TRUE(fs::exists(paths->at("cache") + "/kept"));
}

// The volume that admission gives to every pod.
TEST_F(VolumesTest, ProjectedTokenConfigMapAndDownwardApi) {
  config_maps_["default/kube-root-ca.crt"] = {{"ca.crt", "PEM"}};
  auto& projected = *volume("kube-api-access-x").mutable_projected();
  projected.set_defaultmode(0644);
  auto& token = *projected.add_sources()->mutable_serviceaccounttoken();
  token.set_expirationseconds(3607);
  token.set_path("token");
  auto& map = *projected.add_sources()->mutable_configmap();
  map.mutable_localobjectreference()->set_name("kube-root-ca.crt");
  auto* item = map.add_items();
  item->set_key("ca.crt");
  item->set_path("ca.crt");
  auto* field = projected.add_sources()->mutable_downwardapi()->add_items();
  field->set_path("namespace");
  field->mutable_fieldref()->set_fieldpath("metadata.namespace");
  projected.add_sources()->mutable_secret()->mutable_localobjectreference()->set_name("absent");
  projected.mutable_sources(3)->mutable_secret()->set_optional(true);

  auto paths = setup();
  ASSERT_FALSE(paths);
  EXPECT_EQ(paths.error().message(), "volume 'kube-api-access-x': there is none");
  token_ = "T1";
  paths = setup();
  ASSERT_TRUE(paths) << paths.error().message();
  const std::string folder = paths->at("kube-api-access-x");
  EXPECT_EQ(folder, pods_ + "/u1/volumes/kubernetes.io~projected/kube-api-access-x");
  EXPECT_TRUE(on_tmpfs(folder));
  EXPECT_EQ(read_file(folder + "/token").value(), "T1");
  EXPECT_EQ(mode(folder + "/token"), 0644U);
  EXPECT_EQ(read_file(folder + "/ca.crt").value(), "PEM");
  EXPECT_EQ(read_file(folder + "/namespace").value(), "default");

  // Another token is another set of files, at once.
  token_ = "T2";
  const auto before = fs::read_symlink(folder + "/..data");
  EXPECT_EQ(refresh().value(), true);
  EXPECT_NE(fs::read_symlink(folder + "/..data"), before);
  EXPECT_EQ(read_file(folder + "/token").value(), "T2");
  EXPECT_EQ(refresh().value(), false);
}

TEST_F(VolumesTest, ATokenIsForWhoeverRuns) {
  auto& projected = *volume("t").mutable_projected();
  projected.add_sources()->mutable_serviceaccounttoken()->set_path("token");
  token_ = "T";
  pod_.mutable_spec()->add_containers()->mutable_securitycontext()->set_runasuser(1234);
  auto paths = setup();
  ASSERT_TRUE(paths) << paths.error().message();
  struct stat info{};
  ASSERT_EQ(stat((paths->at("t") + "/token").c_str(), &info), 0);
  EXPECT_EQ(info.st_uid, 1234U);
  EXPECT_EQ(info.st_mode & 07777U, 0600U);
  EXPECT_EQ(refresh().value(), false);

  pod_.mutable_spec()->mutable_securitycontext()->set_fsgroup(4242);
  EXPECT_EQ(refresh().value(), true);
  ASSERT_EQ(stat((paths->at("t") + "/token").c_str(), &info), 0);
  EXPECT_EQ(info.st_gid, 4242U);
  EXPECT_EQ(info.st_mode & 07777U, 0640U);
}

TEST_F(VolumesTest, DownwardApiFilesFollowThePod) {
  (*pod_.mutable_metadata()->mutable_labels())["app"] = "web";
  (*pod_.mutable_metadata()->mutable_labels())["a"] = "say \"x\"";
  auto* container = pod_.mutable_spec()->add_containers();
  container->set_name("c");
  auto& files = *volume("info").mutable_downwardapi();
  files.set_defaultmode(0444);
  auto* labels = files.add_items();
  labels->set_path("labels");
  labels->mutable_fieldref()->set_fieldpath("metadata.labels");
  auto* limit = files.add_items();
  limit->set_path("cpu");
  limit->set_mode(0400);
  limit->mutable_resourcefieldref()->set_containername("c");
  limit->mutable_resourcefieldref()->set_resource("limits.cpu");
  limit->mutable_resourcefieldref()->mutable_divisor()->set_string("1m");
  const auto paths = setup();
  ASSERT_TRUE(paths) << paths.error().message();
  EXPECT_EQ(paths->at("info"), pods_ + "/u1/volumes/kubernetes.io~downward-api/info");
  EXPECT_EQ(read_file(paths->at("info") + "/labels").value(), "a=\"say \\\"x\\\"\"\napp=\"web\"");
  EXPECT_EQ(read_file(paths->at("info") + "/cpu").value(), "2000");
  EXPECT_EQ(mode(paths->at("info") + "/cpu"), 0400U);
  EXPECT_EQ(mode(paths->at("info") + "/labels"), 0444U);
  (*pod_.mutable_metadata()->mutable_labels())["app"] = "api";
  pod_.mutable_metadata()->mutable_labels()->erase("a");
  EXPECT_EQ(refresh().value(), true);
  EXPECT_EQ(read_file(paths->at("info") + "/labels").value(), "app=\"api\"");
}

TEST_F(VolumesTest, ConfigMapsAndSecretsWithItemsModesAndGroup) {
  config_maps_["default/settings"] = {{"a", "1"}, {"b", "2"}};
  secrets_["default/keys"] = {{"tls.key", "private"}};
  auto& map = *volume("settings").mutable_configmap();
  map.mutable_localobjectreference()->set_name("settings");
  auto* item = map.add_items();
  item->set_key("b");
  item->set_path("etc/b.conf");
  item->set_mode(0600);
  auto& secret = *volume("keys").mutable_secret();
  secret.set_secretname("keys");
  secret.set_defaultmode(0400);
  pod_.mutable_spec()->mutable_securitycontext()->set_fsgroup(4242);
  const auto paths = setup();
  ASSERT_TRUE(paths) << paths.error().message();
  EXPECT_EQ(paths->at("settings"), pods_ + "/u1/volumes/kubernetes.io~configmap/settings");
  EXPECT_EQ(read_file(paths->at("settings") + "/etc/b.conf").value(), "2");
  EXPECT_FALSE(fs::exists(paths->at("settings") + "/a"));
  EXPECT_EQ(mode(paths->at("settings") + "/etc/b.conf"), 0640U);
  EXPECT_EQ(paths->at("keys"), pods_ + "/u1/volumes/kubernetes.io~secret/keys");
  EXPECT_TRUE(on_tmpfs(paths->at("keys")));
  EXPECT_EQ(mode(paths->at("keys") + "/tls.key"), 0440U);
  struct stat info{};
  stat((paths->at("keys") + "/tls.key").c_str(), &info);
  EXPECT_EQ(info.st_gid, 4242U);

  EXPECT_FALSE(*refresh());
  config_maps_["default/settings"]["b"] = "3";
  EXPECT_TRUE(*refresh());
  EXPECT_EQ(read_file(paths->at("settings") + "/etc/b.conf").value(), "3");
}

TEST_F(VolumesTest, WhatIsAbsentFailsUnlessOptional) {
  auto& map = *volume("settings").mutable_configmap();
  map.mutable_localobjectreference()->set_name("settings");
  auto paths = setup();
  ASSERT_FALSE(paths);
  EXPECT_EQ(paths.error().code, Code::kNotFound);
  EXPECT_EQ(paths.error().message(), "volume 'settings': configmap \"settings\" not found");
  map.set_optional(true);
  EXPECT_TRUE(setup());
  map.set_optional(false);
  config_maps_["default/settings"] = {};
  auto* item = map.add_items();
  item->set_key("k");
  item->set_path("p");
  EXPECT_EQ(setup().error().message(), "volume 'settings': configmap \"settings\" has no key 'k'");
  item->set_path("../p");
  EXPECT_EQ(setup().error().message(), "volume 'settings': path '../p' holds '..'");
}

TEST_F(VolumesTest, HostPathTypes) {
  const std::string base = dir_ / "host";
  fs::create_directories(base + "/dir");
  std::ofstream(base + "/file") << "x";
  struct Case {
    std::string path;
    std::string type;
    std::string error;  // "": fine
  };
  const Case cases[] = {
      {"/absent", "", ""},
      {"/dir", "Directory", ""},
      {"/file", "Directory", "is not a directory"},
      {"/absent", "Directory", "does not exist"},
      {"/new/dir", "DirectoryOrCreate", ""},
      {"/file", "File", ""},
      {"/dir", "File", "is not a file"},
      {"/new/file", "FileOrCreate", ""},
      {"/file", "Socket", "is not a socket"},
      {"/dir", "BlockDevice", "is not a block device"},
      {"/dir", "Folder", "hostPath.type: 'Folder' is no type"},
  };
  for (const auto& [path, type, error] : cases) {
    pod_.mutable_spec()->clear_volumes();
    auto& source = *volume("host").mutable_hostpath();
    source.set_path(base + path);
    source.set_type(type);
    const auto paths = setup();
    EXPECT_EQ(paths.has_value(), error.empty()) << path << " " << type;
    if (paths) {
      EXPECT_EQ(paths->at("host"), base + path);
    } else {
      EXPECT_THAT(paths.error().message(), HasSubstr(error));
    }
  }
  EXPECT_TRUE(fs::is_directory(base + "/new/dir"));
  EXPECT_TRUE(fs::is_regular_file(base + "/new/file"));
  pod_.mutable_spec()->clear_volumes();
  volume("null").mutable_hostpath()->set_path("/dev/null");
  pod_.mutable_spec()->mutable_volumes(0)->mutable_volumesource()->mutable_hostpath()->set_type("CharDevice");
  EXPECT_TRUE(setup());
}

TEST_F(VolumesTest, UnsupportedKindsAndNamesAreRefused) {
  volume("claim").mutable_persistentvolumeclaim()->set_claimname("x");
  EXPECT_EQ(setup().error().message(), "volume 'claim': this kind of volume is not supported");
  pod_.mutable_spec()->clear_volumes();
  volume("..").mutable_emptydir();
  EXPECT_EQ(setup().error().code, Code::kInvalid);
  pod_.mutable_spec()->clear_volumes();
  const auto bad =
      wait<Volumes::HostPaths>([&](auto done) { volumes_.setup("../u", pod_, sources(), std::move(done)); });
  EXPECT_EQ(bad.error().code, Code::kInvalid);
}

TEST_F(VolumesTest, SubPathsAreBoundAndFollowTheirFile) {
  volume("scratch").mutable_emptydir();
  const auto scratch = setup()->at("scratch");
  std::ofstream(scratch + "/file") << "one";
  const auto bind = [&](const std::string& sub_path) {
    return wait<std::string>(
        [&](auto done) { volumes_.bind("u1", {"scratch", scratch, sub_path, "web", 0}, std::move(done)); });
  };
  const auto target = bind("file");
  ASSERT_TRUE(target) << target.error().message();
  EXPECT_EQ(*target, pods_ + "/u1/volume-subpaths/scratch/web/0");
  EXPECT_EQ(read_file(*target).value(), "one");
  EXPECT_EQ(bind("file").value(), *target);
  ASSERT_TRUE(bind("made/dir"));  // another source takes its place
  EXPECT_TRUE(fs::is_directory(*target));
  std::ofstream(*target + "/x") << "two";
  EXPECT_EQ(read_file(scratch + "/made/dir/x").value(), "two");
  fs::create_directory_symlink("/", scratch + "/out");
  EXPECT_EQ(bind("out/etc").error().code, Code::kDenied);
}

TEST_F(VolumesTest, TeardownTakesThePodAndNothingElse) {
  volume("scratch").mutable_emptydir();
  volume("cache").mutable_emptydir()->set_medium("Memory");
  const auto paths = setup();
  ASSERT_TRUE(paths);
  fs::create_directories(dir_ / "outside");
  std::ofstream(dir_ / "outside/kept") << "x";
  fs::create_directory_symlink(dir_ / "outside", paths->at("scratch") + "/link");
  // A bind of our own below the pod: it is undone, not emptied.
  fs::create_directories(paths->at("scratch") + "/bound");
  ASSERT_EQ(mount((dir_ / "outside").c_str(), (paths->at("scratch") + "/bound").c_str(), nullptr, MS_BIND, nullptr), 0);
  EXPECT_THAT(*wait<std::vector<std::string>>([&](auto done) { volumes_.on_disk(std::move(done)); }),
              testing::ElementsAre("u1"));

  // In use: nothing is removed.
  {
    std::ofstream holds(paths->at("cache") + "/open");
    const auto busy = teardown();
    ASSERT_FALSE(busy);
    EXPECT_EQ(busy.error().code, Code::kUnavailable) << busy.error().message();
    EXPECT_TRUE(fs::exists(paths->at("scratch")));
  }
  const auto done = teardown();
  ASSERT_TRUE(done) << done.error().message();
  EXPECT_FALSE(fs::exists(pods_ + "/u1"));
  EXPECT_TRUE(fs::exists(dir_ / "outside/kept"));
  EXPECT_TRUE(teardown());  // again
  EXPECT_TRUE(wait<std::vector<std::string>>([&](auto answer) { volumes_.on_disk(std::move(answer)); })->empty());
}

TEST_F(VolumesTest, APodsTasksRunInTheirOrder) {
  volume("scratch").mutable_emptydir();
  std::vector<std::string> order;
  for (int i = 0; i < 5; ++i) {
    volumes_.setup("u1", pod_, sources(), [&](const auto& result) { order.emplace_back(result ? "setup" : "failed"); });
    volumes_.teardown("u1", [&](const auto& result) { order.emplace_back(result ? "teardown" : "failed"); });
  }
  while (order.size() < 10) loop_.poll();
  for (std::size_t i = 0; i < order.size(); ++i) EXPECT_EQ(order[i], i % 2 == 0 ? "setup" : "teardown");
  EXPECT_FALSE(fs::exists(pods_ + "/u1"));
}

}  // namespace
}  // namespace fairlead::pods
