// SPDX-License-Identifier: Apache-2.0
#include <iostream>

#include "agent/cli/run.h"

int main(int argc, char** argv) {
  return fairlead::cli::run(argc, argv, std::cout, std::cerr);
}
