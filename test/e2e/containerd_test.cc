// SPDX-License-Identifier: Apache-2.0
// The test bed itself: a containerd that came from here runs our images and leaves nothing behind.
#include "test/kit/containerd.h"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

#include "test/kit/cgroup.h"

namespace fairlead::testkit {
namespace {

// With Debian's containerd (an empty folder: the one on PATH) and with containerd 2.4.
class ContainerdTest : public testing::TestWithParam<const char*> {
 protected:
  void TearDown() override {
    std::filesystem::remove_all(folder_);
    remove_cgroups_named("fl-containerd-test");
  }

  static std::filesystem::path make_folder() {
    std::string name = "/tmp/fl-containerd-XXXXXX";
    return mkdtemp(name.data());
  }
  // Processes and mounts that name our folder.
  std::string left_behind() const {
    std::string found;
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
      const std::string cmdline = read(entry.path() / "cmdline");
      if (cmdline.find(folder_.string()) != std::string::npos) found += entry.path().string() + ": " + cmdline + "\n";
    }
    if (read("/proc/self/mountinfo").find(folder_.string()) != std::string::npos) found += "a mount";
    return found;
  }
  static std::string read(const std::filesystem::path& file) {
    std::ifstream in(file);
    return {std::istreambuf_iterator<char>(in), {}};
  }

  const std::filesystem::path folder_ = make_folder();
};

TEST_P(ContainerdTest, RunsAnImageAndLeavesNothingBehind) {
  {
    auto containerd = Containerd::start({.folder = folder_, .netns = {}, .bin_folder = GetParam()});
    ASSERT_TRUE(containerd) << containerd.error().message();
    const auto ran = containerd->ctr("run --detach --cgroup /fl-containerd-test localhost/fairlead/echo:demo echo");
    ASSERT_EQ(ran.code, 0) << ran.output;
    const auto asked = containerd->ctr("tasks exec --exec-id get echo /bin/fl-echo get http://127.0.0.1:8080/ 3");
    EXPECT_EQ(asked.code, 0) << asked.output;
    EXPECT_NE(asked.output.find(" 3\n"), std::string::npos) << asked.output;
    EXPECT_NE(left_behind(), "");
  }
  EXPECT_EQ(left_behind(), "");
}

TEST_P(ContainerdTest, ADaemonThatComesBackFindsItsContainersRunning) {
  auto first = Containerd::start({.folder = folder_, .netns = {}, .bin_folder = GetParam()});
  ASSERT_TRUE(first) << first.error().message();
  ASSERT_EQ(first->ctr("run --detach --cgroup /fl-containerd-test localhost/fairlead/echo:demo echo").code, 0);
  const auto before = first->ctr("tasks ls");
  first->kill_daemon();
  const auto again = Containerd::start({.folder = folder_, .netns = {}, .bin_folder = GetParam()});
  ASSERT_TRUE(again) << again.error().message();
  EXPECT_EQ(again->ctr("tasks ls").output, before.output);
  EXPECT_NE(before.output.find("RUNNING"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Versions, ContainerdTest, testing::Values("", FAIRLEAD_GO_BIN),
                         [](const auto& version) { return std::string(*version.param == 0 ? "debian" : "v2"); });

}  // namespace
}  // namespace fairlead::testkit
