// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/pull_secrets.h"

#include <gtest/gtest.h>

namespace fairlead::pods {
namespace {

std::string users(const std::string& image, const std::string& key, const std::string& text) {
  model::ConfigData secret;
  secret.id.name = "pull";
  secret.data[key] = text;
  auto logins = registry_logins(secret);
  if (!logins) return logins.error().message();
  std::string names;
  for (const auto& auth : logins_for(image, std::move(*logins))) {
    names += (names.empty() ? "" : " ") + auth.username() + ":" + auth.password();
  }
  return names;
}

TEST(PullSecrets, WhichLoginIsForWhichImage) {
  const auto of = [](const std::string& place) {
    return R"({"auths": {")" + place + R"(": {"username": "u", "password": "p"}}})";
  };
  struct Row {
    const char* place;
    const char* image;
    bool serves;
  };
  for (const Row& row : {Row{"registry.example", "registry.example/a:1", true},
                         {"registry.example", "registry.example:5000/a", false},
                         {"registry.example:5000", "registry.example:5000/a/b@sha256:00", true},
                         {"https://registry.example/v1/", "registry.example/a", true},
                         {"registry.example/team", "registry.example/team/a", true},
                         {"registry.example/team", "registry.example/teams/a", false},
                         {"*.example", "registry.example/a", true},
                         {"*.example", "a.b.example/a", false},
                         {"https://index.docker.io/v1/", "busybox", true},
                         {"docker.io", "team/app:1", true},
                         {"docker.io", "localhost/app", false},
                         {"docker.io/team", "busybox", false}}) {
    EXPECT_EQ(users(row.image, ".dockerconfigjson", of(row.place)), row.serves ? "u:p" : "")
        << row.place << " for " << row.image;
  }
}

TEST(PullSecrets, TheMostParticularFirstAndEveryForm) {
  EXPECT_EQ(
      users("r.example/team/a", ".dockerconfigjson",
            R"({"auths": {"r.example": {"auth": "YTpi"}, "r.example/team": {"username": "c", "password": "d"}}})"),
      "c:d a:b");
  EXPECT_EQ(users("r.example/a", ".dockercfg", R"({"r.example": {"auth": "YTpiOmM="}})"), "a:b:c");
}

TEST(PullSecrets, WhatIsNoneSaysSoAndNothingElse) {
  for (const char* text : {"", "[]", "{\"auths\": 5}", "geheim"}) {
    EXPECT_EQ(users("a", ".dockerconfigjson", text), "secret \"pull\" holds no Docker configuration") << text;
  }
  EXPECT_EQ(users("a", "password", "x"), "secret \"pull\" holds no Docker configuration");
}

}  // namespace
}  // namespace fairlead::pods
