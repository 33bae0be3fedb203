// SPDX-License-Identifier: Apache-2.0
#include "agent/base/cni_spool.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace fairlead {
namespace {

std::string folder() {
  std::string path = testing::TempDir() + "fairlead-XXXXXX";
  return mkdtemp(path.data());
}

TEST(CniSpool, GivesBackWhatWasPutInOldestFirst) {
  const std::string run_dir = folder();
  EXPECT_TRUE(read_spool(run_dir)->dels.empty());
  ASSERT_TRUE(spool_del(run_dir, "b", "eth0", 20));
  ASSERT_TRUE(spool_del(run_dir, "a", "eth1", 3));
  ASSERT_TRUE(spool_del(run_dir, "a", "eth1", 30));
  const Spool spool = read_spool(run_dir).value();
  ASSERT_EQ(spool.dels.size(), 3U);
  EXPECT_EQ(spool.dels[0].container, "a");
  EXPECT_EQ(spool.dels[0].ifname, "eth1");
  EXPECT_EQ(spool.dels[0].asked_ns, 3);
  EXPECT_EQ(spool.dels[2].asked_ns, 30);
  for (const SpooledDel& del : spool.dels) EXPECT_TRUE(std::filesystem::remove(del.path));
  EXPECT_TRUE(read_spool(run_dir)->dels.empty());
}

TEST(CniSpool, MakesItsFolders) {
  const std::string run_dir = folder() + "/run";
  ASSERT_TRUE(spool_del(run_dir, "a", "eth0", 1));
  EXPECT_EQ(read_spool(run_dir)->dels.size(), 1U);
}

TEST(CniSpool, WhatIsNoRecordOrOfAnEarlierBootIsToldApart) {
  const std::string run_dir = folder();
  ASSERT_TRUE(spool_del(run_dir, "a", "eth0", 1));
  const std::string spool_folder = std::filesystem::path(read_spool(run_dir)->dels[0].path).parent_path();
  std::ofstream(spool_folder + "/1.del") << "garbage {";
  std::ofstream(spool_folder + "/2.del") << R"({"boot": "another", "container": "a", "ifname": "eth0", "askedNs": 1})";
  std::ofstream(spool_folder + "/3.del") << R"({"boot": ")" << boot_id()
                                         << R"(", "container": "../a", "ifname": "eth0", "askedNs": 1})";
  std::ofstream(spool_folder + "/4.del.tmp") << "being written";
  const Spool spool = read_spool(run_dir).value();
  EXPECT_EQ(spool.dels.size(), 1U);
  EXPECT_EQ(spool.unreadable.size(), 3U);
}

TEST(CniSpool, WhatCannotBeWrittenIsSaid) {
  const auto spooled = spool_del("/proc/fairlead", "a", "eth0", 1);
  ASSERT_FALSE(spooled);
  EXPECT_NE(spooled.error().message().find("/proc/fairlead"), std::string::npos);
}

TEST(CniSpool, TimeGoesOnAndTheBootHasAName) {
  const std::int64_t before = boot_time_ns();
  EXPECT_GT(before, 0);
  EXPECT_LE(before, boot_time_ns());
  EXPECT_EQ(boot_id().size(), 36U);
}

}  // namespace
}  // namespace fairlead
