// SPDX-License-Identifier: Apache-2.0
// MappedArray over a real map: every element is reached, and what is mapped goes back.
#include "agent/datapath/mapped_array.h"

#include <bpf/bpf.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

namespace fairlead::datapath {
namespace {

// As large as a rule set: windows end within elements.
struct Element {
  std::uint64_t words[33];
};
constexpr std::uint32_t kSize = 20'000;  // 5 MiB

class MappedArrayTest : public testing::Test {
 protected:
  void SetUp() override {
    LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_MMAPABLE);
    map_ =
        UniqueFd(bpf_map_create(BPF_MAP_TYPE_ARRAY, "mapped", sizeof(std::uint32_t), sizeof(Element), kSize, &options));
    ASSERT_TRUE(map_) << errno;
  }
  MappedArray<Element> open() { return *MappedArray<Element>::open(map_.get(), kSize, "mapped"); }
  // How much of BPF maps this process has mapped.
  static std::size_t mapped() {
    std::size_t bytes = 0;
    std::ifstream maps("/proc/self/maps");
    for (std::string line; std::getline(maps, line);) {
      if (line.find("bpf-map") == std::string::npos) continue;
      std::uint64_t begin = 0, end = 0;
      char dash = 0;
      std::istringstream(line) >> std::hex >> begin >> dash >> end;
      bytes += end - begin;
    }
    return bytes;
  }
  UniqueFd map_;
};

TEST_F(MappedArrayTest, EveryElementIsReachedAndWritten) {
  auto array = open();
  for (std::uint32_t index = 0; index < kSize; ++index) store(array[index].words[32], index);
  array.unmap_much();
  std::uint32_t next = 0;
  array.for_each([&](std::uint32_t index, Element& element) {
    EXPECT_EQ(index, next++);
    ASSERT_EQ(element.words[32], index);
    element.words[0] = index + 1;
  });
  EXPECT_EQ(next, kSize);
  Element last{};
  const std::uint32_t index = kSize - 1;
  ASSERT_EQ(bpf_map_lookup_elem(map_.get(), &index, &last), 0);
  EXPECT_EQ(last.words[0], kSize);
}

TEST_F(MappedArrayTest, WhatIsMappedGoesBack) {
  const std::size_t before = mapped();
  {
    auto array = open();
    array[0].words[0] = 1;
    array[kSize / 2].words[0] = 2;
    const std::size_t few = mapped() - before;
    EXPECT_GT(few, 0U);
    std::size_t most = 0;
    array.for_each([&](std::uint32_t index, const Element&) {
      if (index % 1000 == 0) most = std::max(most, mapped() - before);
    });
    EXPECT_LE(most, std::size_t{3} << 20) << "of " << sizeof(Element) * kSize;
    EXPECT_EQ(mapped() - before, few) << "what was mapped before stays";
    for (std::uint32_t index = 0; index < kSize; ++index) array[index].words[1] = index;
    EXPECT_GT(mapped() - before, std::size_t{4} << 20);
    array.unmap_much();
    EXPECT_EQ(mapped() - before, 0U);
    EXPECT_EQ(array[7].words[1], 7U) << "mapped again";
  }
  EXPECT_EQ(mapped(), before);
}

}  // namespace
}  // namespace fairlead::datapath
