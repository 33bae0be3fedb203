// SPDX-License-Identifier: Apache-2.0
// main() of tests that run on a node of their own.
#include <gtest/gtest.h>

#include "test/kit/own_node.h"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (GTEST_FLAG_GET(list_tests)) return RUN_ALL_TESTS();
  return fairlead::testkit::run_as_node([] { return RUN_ALL_TESTS(); });
}
