// SPDX-License-Identifier: Apache-2.0
// FakeHealth: gRPC servers that serve as the test says.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/loop.h"
#include "agent/health/checker.h"

namespace fairlead::pods {

// Owner and thread: the test's.
class FakeHealth final : public health::Checker {
 public:
  explicit FakeHealth(Loop& loop) : loop_(loop) {}

  std::map<std::string, Result<>> services;  // by name: what a check of it answers; others serve
  std::vector<health::Check> checks;         // as they came

  void check(const health::Check& check, Done done) override {
    checks.push_back(check);
    const auto at = services.find(check.service);
    loop_.post([done = std::move(done), result = at == services.end() ? Result<>() : at->second] { done(result); });
  }

 private:
  Loop& loop_;
};

}  // namespace fairlead::pods
