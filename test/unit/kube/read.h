// SPDX-License-Identifier: Apache-2.0
// Objects from YAML text, for tests: what does not read fails the test.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "agent/kube/codec/text.h"

namespace fairlead::kube {

template <class Message>
Message read_text(std::string_view text) {
  Message message;
  const auto root = yaml::parse_one(text);
  if (!root) {
    ADD_FAILURE() << locate("text", root.error());
    return message;
  }
  for (const FieldError& error : read_message(*root, message)) ADD_FAILURE() << locate("text", error) << "\n" << text;
  return message;
}

inline std::vector<std::string> texts(const FieldErrors& errors) {
  std::vector<std::string> all;
  for (const FieldError& error : errors) all.push_back(error.str());
  return all;
}

}  // namespace fairlead::kube
