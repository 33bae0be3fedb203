// SPDX-License-Identifier: Apache-2.0
#include "agent/base/one_at_a_time.h"

#include <gtest/gtest.h>

namespace fairlead {
namespace {

TEST(OneAtATime, RunsOnceMoreForAllWhoAskedMeanwhile) {
  OneAtATime work;
  EXPECT_FALSE(work.running());
  EXPECT_TRUE(work.begin());
  EXPECT_TRUE(work.running());
  EXPECT_FALSE(work.begin());
  EXPECT_FALSE(work.begin());
  EXPECT_TRUE(work.end());
  EXPECT_FALSE(work.running());
  EXPECT_TRUE(work.begin());
  EXPECT_FALSE(work.end());
}

}  // namespace
}  // namespace fairlead
