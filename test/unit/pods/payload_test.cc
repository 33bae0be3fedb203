// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/volumes/payload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "agent/base/atomic_file.h"
#include "agent/pods/volumes/mounts.h"
#include "agent/pods/volumes/sub_path.h"

namespace fairlead::pods {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;

class PayloadTest : public testing::Test {
 protected:
  void SetUp() override { fs::create_directories(dir_); }
  void TearDown() override { fs::remove_all(dir_); }

  bool write(const Payload& payload) {
    const auto changed = write_payload(dir_, payload, {});
    EXPECT_TRUE(changed) << changed.error().message();
    return changed && *changed;
  }
  std::string read(const std::string& path) const { return read_file(dir_ / path).value_or("(absent)"); }
  mode_t mode(const std::string& path) const {
    struct stat info{};
    EXPECT_EQ(stat((dir_ / path).c_str(), &info), 0) << path;
    return info.st_mode & 07777;
  }
  std::vector<std::string> names() const {
    std::vector<std::string> found;
    for (const auto& entry : fs::directory_iterator(dir_)) found.push_back(entry.path().filename());
    std::ranges::sort(found);
    return found;
  }

  const fs::path dir_ = fs::temp_directory_path() / ("fl-payload-" + std::to_string(getpid()));
};

TEST_F(PayloadTest, FilesStandBehindOneLink) {
  EXPECT_TRUE(write({{"a", {"1", 0644}}, {"sub/b", {"2", 0400}}}));
  EXPECT_EQ(read("a"), "1");
  EXPECT_EQ(read("sub/b"), "2");
  EXPECT_EQ(mode("a"), 0644U);
  EXPECT_EQ(mode("sub/b"), 0400U);
  EXPECT_EQ(fs::read_symlink(dir_ / "a"), "..data/a");
  EXPECT_EQ(fs::read_symlink(dir_ / "sub"), "..data/sub");
  EXPECT_THAT(names(), ElementsAre(testing::StartsWith("..2"), "..data", "a", "sub"));
}

TEST_F(PayloadTest, TheSameAgainTouchesNothing) {
  const Payload payload{{"a", {"1", 0644}}};
  EXPECT_TRUE(write(payload));
  const auto before = fs::read_symlink(dir_ / "..data");
  EXPECT_FALSE(write(payload));
  EXPECT_EQ(fs::read_symlink(dir_ / "..data"), before);
}

TEST_F(PayloadTest, AChangeSwapsTheSetAndLeavesNothingOfTheOld) {
  write({{"gone", {"1", 0644}}, {"stays", {"1", 0644}}});
  const auto before = fs::read_symlink(dir_ / "..data");
  EXPECT_TRUE(write({{"stays", {"2", 0600}}, {"new", {"", 0644}}}));
  EXPECT_NE(fs::read_symlink(dir_ / "..data"), before);
  EXPECT_EQ(read("stays"), "2");
  EXPECT_EQ(mode("stays"), 0600U);
  EXPECT_EQ(read("new"), "");
  EXPECT_THAT(names(), ElementsAre(testing::StartsWith("..2"), "..data", "new", "stays"));
  EXPECT_TRUE(write({}));
  EXPECT_THAT(names(), ElementsAre(testing::StartsWith("..2"), "..data"));
}

TEST_F(PayloadTest, AFailureKeepsTheOldSet) {
  write({{"a", {"1", 0644}}});
  EXPECT_FALSE(write_payload(dir_, {{"a", {"2", 0644}}, {"a/b", {"3", 0644}}}, {}));
  EXPECT_EQ(read("a"), "1");
  EXPECT_THAT(names(), ElementsAre(testing::StartsWith("..2"), "..data", "a"));
}

TEST_F(PayloadTest, WhatACrashLeftIsTidied) {
  write({{"a", {"1", 0644}}});
  fs::create_directories(dir_ / "..2020_01_01_00_00_00.7/sub");
  fs::create_symlink("..2020_01_01_00_00_00.7", dir_ / "..data_tmp");
  EXPECT_FALSE(write({{"a", {"1", 0644}}}));
  EXPECT_THAT(names(), ElementsAre(testing::StartsWith("..2"), "..data", "a"));
  EXPECT_EQ(read("a"), "1");
}

TEST(ItemPath, IsCleanOrRefused) {
  EXPECT_EQ(checked_item_path("a//b/./c/").value(), "a/b/c");
  EXPECT_EQ(checked_item_path("a..b").value(), "a..b");
  for (const std::string path : {"", "/", "/a", "..", "../a", "a/../../b", "a/..", "..data", ".", "./"}) {
    const auto checked = checked_item_path(path);
    ASSERT_FALSE(checked) << path;
    EXPECT_EQ(checked.error().code, Code::kInvalid);
  }
  EXPECT_FALSE(checked_item_path(std::string(256, 'a')));
  EXPECT_FALSE(checked_item_path(std::string(5000, 'a')));
}

TEST(Mounts, AreFoundByTheirRealPath) {
  const std::string text =
      "22 1 0:21 / /x rw - tmpfs tmpfs rw\n"
      "23 1 0:21 / /x/pods/u1/v\\040w rw shared:1 - tmpfs tmpfs rw\n"
      "24 1 0:21 / /x/pods/u12 rw - tmpfs tmpfs rw\n"
      "25 1 0:21 / /x/pods/u1 rw - tmpfs tmpfs rw\n";
  EXPECT_THAT(mounts_under(text, "/x/pods/u1"), ElementsAre("/x/pods/u1/v w", "/x/pods/u1"));
  EXPECT_THAT(mounts_under("", "/x"), ElementsAre());
}

TEST_F(PayloadTest, SubPathsStayInTheirVolume) {
  fs::create_directories(dir_ / "in/deep");
  fs::create_directory_symlink("in/deep", dir_ / "good");
  fs::create_directory_symlink("/etc", dir_ / "absolute");
  fs::create_directory_symlink("../..", dir_ / "up");
  fs::create_directory_symlink("/proc/self/root", dir_ / "magic");
  const auto opens = [&](const std::string& path) { return open_sub_path(dir_, path).has_value(); };
  EXPECT_TRUE(opens("in/deep"));
  EXPECT_TRUE(opens("good"));
  EXPECT_TRUE(opens("good/made/here"));
  EXPECT_TRUE(fs::is_directory(dir_ / "in/deep/made/here"));
  for (const std::string path :
       {"/etc", "..", "in/../..", "absolute", "absolute/new", "up", "up/new", "magic", "magic/tmp"}) {
    EXPECT_FALSE(opens(path)) << path;
  }
  EXPECT_EQ(open_sub_path(dir_, "up").error().code, Code::kDenied);
}

}  // namespace
}  // namespace fairlead::pods
