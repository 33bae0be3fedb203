// SPDX-License-Identifier: Apache-2.0
#include "agent/base/atomic_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

namespace fairlead {
namespace {

struct AtomicFile : testing::Test {
  std::filesystem::path dir = testing::TempDir() + "fairlead-atomic-file-" + std::to_string(::getpid());
  std::string path = dir / "state.json";
  AtomicFile() {
    std::filesystem::remove_all(dir);
    std::filesystem::create_directories(dir);
  }
  ~AtomicFile() override { std::filesystem::remove_all(dir); }
};

TEST_F(AtomicFile, IsReadBackWholeAndLeavesNothingBeside) {
  const std::string long_text(100'000, 'x');
  for (const std::string& text : {std::string("first"), long_text, std::string()}) {
    ASSERT_TRUE(write_atomically(path, text));
    EXPECT_EQ(read_file(path).value(), text);
  }
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir), {}), 1);
}

TEST_F(AtomicFile, AMissingFileIsNotFoundAndNamesThePath) {
  const auto missing = read_file(path);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, Code::kNotFound);
  EXPECT_NE(missing.error().message().find(path), std::string::npos);
}

TEST_F(AtomicFile, AFailedWriteKeepsTheOldFile) {
  ASSERT_TRUE(write_atomically(path, "old"));
  std::filesystem::create_directory(path + ".tmp");  // the file beside cannot be made
  const auto written = write_atomically(path, "new");
  ASSERT_FALSE(written);
  EXPECT_NE(written.error().message().find(path + ".tmp"), std::string::npos);
  EXPECT_EQ(read_file(path).value(), "old");
}

}  // namespace
}  // namespace fairlead
