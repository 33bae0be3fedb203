// SPDX-License-Identifier: Apache-2.0
#include "agent/base/utf8.h"

#include <gtest/gtest.h>

namespace fairlead {
namespace {

using namespace std::string_view_literals;

TEST(Utf8, LengthOfTheFirstCharacter) {
  const std::pair<std::string_view, std::size_t> kCases[] = {{"ab", 1},
                                                             {"\0"sv, 1},
                                                             {"\u0080", 2},
                                                             {"\u07ffx", 2},
                                                             {"\u0800", 3},
                                                             {"\uffff", 3},
                                                             {"\U00010000", 4},
                                                             {"\U0010ffffx", 4},
                                                             {"\x80", 0},
                                                             {"\xc3", 0},
                                                             {"\xc3(", 0},
                                                             {"\xc0\x80", 0},
                                                             {"\xe0\x9f\xbf", 0},
                                                             {"\xed\xa0\x80", 0},
                                                             {"\xf0\x8f\xbf\xbf", 0},
                                                             {"\xf4\x90\x80\x80", 0},
                                                             {"\xf5\x80\x80\x80", 0}};
  for (const auto& [text, length] : kCases) EXPECT_EQ(utf8_length(text), length) << testing::PrintToString(text);
}

TEST(Utf8, IsAsAWhole) {
  EXPECT_TRUE(is_utf8(""));
  EXPECT_TRUE(is_utf8("a\u00e9\U0001F600"));
  EXPECT_FALSE(is_utf8("a\xff"));
  EXPECT_FALSE(is_utf8("\u00e9\xc3"));
}

}  // namespace
}  // namespace fairlead
