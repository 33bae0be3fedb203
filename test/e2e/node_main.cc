// SPDX-License-Identifier: Apache-2.0
// main() of tests that run on a node of their own.
#include <gtest/gtest.h>

#include "test/e2e/node_fixture.h"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  return fairlead::e2e::run_as_node([] { return RUN_ALL_TESTS(); });
}
