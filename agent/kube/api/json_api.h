// SPDX-License-Identifier: Apache-2.0
// JsonApi: single objects, read and written as JSON: what a node agent writes is small and rare.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "agent/kube/api/http.h"

namespace fairlead::kube {

using Json = nlohmann::json;

// Thread: the API edge's loop, where `done` runs too. `http` outlives it.
class JsonApi {
 public:
  explicit JsonApi(HttpClient& http) : http_(http) {}

  // The object in the answer; an HTTP status of 400 and above is an error (check_status()).
  using Done = std::function<void(Result<Json>)>;

  void get(const std::string& path, Done done) { send("GET", path, nullptr, "", std::move(done)); }
  void create(const std::string& path, const Json& object, Done done) {
    send("POST", path, object, "application/json", std::move(done));
  }
  void replace(const std::string& path, const Json& object, Done done) {
    send("PUT", path, object, "application/json", std::move(done));
  }
  void patch(const std::string& path, const Json& patch, Done done) {
    send("PATCH", path, patch, "application/strategic-merge-patch+json", std::move(done));
  }
  // `options`: DeleteOptions.
  void remove(const std::string& path, const Json& options, Done done) {
    send("DELETE", path, options, "application/json", std::move(done));
  }

 private:
  void send(const char* method, const std::string& path, const Json& body, const char* type, Done done);
  HttpClient& http_;
};

}  // namespace fairlead::kube
